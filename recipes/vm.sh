#!/usr/bin/env bash
# What a fresh virtual machine does, and does again whenever it has been taken away and is back:
# install, restore from the mirror, train on. Settings are in the environment:
#
#   REPOSITORY   what to clone
#   REVISION     branch, tag or commit (default: main)
#   PYTHON       3.11 or newer (default: python3, or else Ubuntu's python3.11)
#   JAX          jax[cuda12] on GPUs, jax[tpu] on TPUs, jax on CPUs (default: jax[cuda12])
#   ARGUMENTS    of launch.py, with --workdir and --mirror
#
# SIGTERM, as a machine gets it that is about to go, is handed on to the program, which saves.
set -euo pipefail

: "${REPOSITORY:?what to clone}" "${ARGUMENTS:?arguments of launch.py}"
place=${PLACE:-/opt/rnn_jax}
if [ ! -e "$place/ready" ]; then
  rm -rf "$place"
  git clone --quiet "$REPOSITORY" "$place/source"
  git -C "$place/source" checkout --quiet "${REVISION:-main}"
  python=${PYTHON:-python3}
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    sudo apt-get update --quiet && sudo apt-get install --quiet --yes python3.11-venv
    python=python3.11
  fi
  "$python" -m venv "$place/venv"
  "$place/venv/bin/pip" install --quiet "${JAX:-jax[cuda12]}" -e "$place/source[mirror]"
  touch "$place/ready"
fi
cd "$place/source"
eval "set -- $ARGUMENTS"
exec "$place/venv/bin/python" launch.py "$@"
