#!/usr/bin/env bash
# One run on one node of a Slurm cluster, in pieces if need be:
#
#   sbatch recipes/slurm.sh --experiment=bilstm --workdir=/scratch/bilstm
#
# Two minutes before its time is over, and when it has to make room for another, the program gets
# SIGTERM, saves and ends with 143. Then the same job waits for its turn again, and goes on.
#SBATCH --job-name=rnn_jax
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

srun python launch.py "$@"
code=$?
if [ "$code" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
