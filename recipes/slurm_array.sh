#!/usr/bin/env bash
# Many seeds on a Slurm cluster, each a job of its own that is requeued like slurm.sh:
#
#   sbatch --array=0-19 recipes/slurm_array.sh /scratch/seeds --experiment=bilstm
#
# Run N is in /scratch/seeds/N. For other axes than the seed, and one report of all, see
# docs/sweeps.md (--engine=ray).
#SBATCH --job-name=rnn_jax
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

folder=$1
shift
seed=$SLURM_ARRAY_TASK_ID
srun python launch.py "$@" --config.train.seed="$seed" --workdir="$folder/$seed"
code=$?
if [ "$code" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
