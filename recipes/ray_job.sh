#!/usr/bin/env bash
# A sweep as a job of a Ray cluster that is there already: it goes on when this terminal is closed.
#
#   RAY_API=http://HEAD:8265 recipes/ray_job.sh --experiment=gru --workdir=/shared/gru_sweep \
#     --sweep="train.seed=0..99"
#
# The nodes need rnn_jax, and the folder must be on a disk that all of them share. This checkout is
# sent along, without what git does not keep.
set -euo pipefail
cd "$(dirname "$0")/.."

ray job submit --no-wait --address="${RAY_API:-http://127.0.0.1:8265}" \
  --runtime-env-json='{"working_dir": ".", "excludes": [".git", "runs", "docs", "tests"]}' -- \
  python launch.py "$@" --engine=ray --ray_address=auto
