#!/usr/bin/env bash
# A GPU by the minute on Google Cloud that may be taken away: a group of one spot machine, which is
# made anew whenever it is gone, and goes on from the mirror.
#
#   REPOSITORY=https://github.com/NAME/rnn_jax ARGUMENTS="--experiment=bilstm \
#     --workdir=/var/run_bilstm --mirror=gs://BUCKET/bilstm" recipes/gpu_vm.sh create bilstm
#   recipes/gpu_vm.sh delete bilstm
#
# IMAGE_PROJECT and IMAGE_FAMILY name a system with NVIDIA's driver; ZONE and MACHINE choose as well.
# The machine's own account must be let into the bucket. The group costs until it is deleted.
set -euo pipefail
cd "$(dirname "$0")"

name=${2:?a name}
zone=${ZONE:-us-central1-a}
case ${1:?create or delete} in
  create)
    : "${REPOSITORY:?what to clone}" "${ARGUMENTS:?arguments of launch.py}"
    : "${IMAGE_PROJECT:?of the image}" "${IMAGE_FAMILY:?of images, with the driver of the GPU}"
    script=$(mktemp)
    trap 'rm -f "$script"' EXIT
    {
      echo '#!/usr/bin/env bash'
      for variable in REPOSITORY REVISION PYTHON JAX ARGUMENTS; do
        if [ -n "${!variable:-}" ]; then
          printf 'export %s=%q\n' "$variable" "${!variable}"
        fi
      done
      cat vm.sh
    } >"$script"
    gcloud compute instance-templates create "$name" \
      --machine-type="${MACHINE:-g2-standard-4}" \
      --image-project="$IMAGE_PROJECT" --image-family="$IMAGE_FAMILY" \
      --boot-disk-size=100GB --maintenance-policy=TERMINATE \
      --provisioning-model=SPOT --instance-termination-action=STOP \
      --scopes=storage-rw --metadata-from-file=startup-script="$script"
    gcloud compute instance-groups managed create "$name" \
      --zone="$zone" --template="$name" --size=1
    ;;
  delete)
    gcloud compute instance-groups managed delete "$name" --zone="$zone" --quiet
    gcloud compute instance-templates delete "$name" --quiet
    ;;
  *)
    echo "create or delete, not $1" >&2
    exit 2
    ;;
esac
