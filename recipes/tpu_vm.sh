#!/usr/bin/env bash
# A TPU VM on Google Cloud that may be taken away: it is made anew until the program is done.
#
#   REPOSITORY=https://github.com/NAME/rnn_jax ARGUMENTS="--experiment=bilstm \
#     --workdir=/tmp/bilstm --mirror=gs://BUCKET/bilstm" recipes/tpu_vm.sh bilstm
#
# ZONE, TYPE and SOFTWARE choose. Runs on your own machine as long as the training takes.
set -euo pipefail
cd "$(dirname "$0")"

name=${1:?a name}
: "${REPOSITORY:?what to clone}" "${ARGUMENTS:?arguments of launch.py}"
zone=${ZONE:-us-central1-a}
settings=$(printf 'PLACE=$HOME/rnn_jax JAX=%q REPOSITORY=%q REVISION=%q ARGUMENTS=%q' \
  "${JAX:-jax[tpu]}" "$REPOSITORY" "${REVISION:-main}" "$ARGUMENTS")

tpu() { gcloud compute tpus tpu-vm "$@" --zone="$zone"; }

state() { tpu describe "$name" --format='value(state)' 2>/dev/null || echo NONE; }

while true; do
  state=$(state)
  if [ "$state" = PREEMPTED ] || [ "$state" = TERMINATED ]; then
    tpu delete "$name" --quiet
    state=NONE
  fi
  if [ "$state" = NONE ]; then
    tpu create "$name" --accelerator-type="${TYPE:-v5litepod-1}" \
      --version="${SOFTWARE:-v2-alpha-tpuv5-lite}" --spot
  fi
  code=0
  tpu scp vm.sh "$name": --worker=all || code=255
  if [ "$code" -eq 0 ]; then
    tpu ssh "$name" --worker=all --command="$settings bash vm.sh" || code=$?
  fi
  # 0: done. 1, 2: the program says what is wrong, if the machine is still there. Others: it is not.
  case $code in
    0) break ;;
    1 | 2) if [ "$(state)" = READY ]; then break; fi ;;
  esac
  sleep "${PAUSE:-30}"
done
tpu delete "$name" --quiet
exit "$code"
