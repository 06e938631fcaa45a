#!/usr/bin/env bash
# A sweep on several nodes of a Slurm cluster: Ray on all of them, the sweep on the first.
#
#   sbatch --nodes=4 recipes/slurm_ray.sh --experiment=gru --workdir=/scratch/gru_sweep \
#     --sweep="train.seed=0..99" --trial_cpus=2
#
# The folder must be on a disk that all nodes share.
#SBATCH --job-name=rnn_jax_sweep
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=32G
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

port=${RAY_PORT:-6379}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
workers=$((SLURM_JOB_NUM_NODES - 1))
export RAY_USAGE_STATS_ENABLED=0

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  ray start --head --port="$port" --num-cpus="$SLURM_CPUS_PER_TASK" --include-dashboard=false --block &
sleep "${RAY_WAIT:-15}"
if [ "$workers" -gt 0 ]; then
  srun --nodes="$workers" --ntasks="$workers" --exclude="$head" --overlap \
    ray start --address="$head:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
  sleep "${RAY_WAIT:-15}"
fi

python launch.py "$@" --engine=ray --ray_address="$head:$port" &
sweep=$!
# The signal is the script's (B:), which hands it on; the second wait is for the end.
trap 'kill -TERM "$sweep"' TERM
wait "$sweep"
code=$?
if [ "$code" -gt 128 ] && kill -0 "$sweep" 2>/dev/null; then
  wait "$sweep"
  code=$?
fi
if [ "$code" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
