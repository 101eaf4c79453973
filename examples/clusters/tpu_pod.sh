#!/bin/bash
# One command on every worker of a TPU pod slice, whose processes find each other:
#
#   examples/clusters/tpu_pod.sh my-pod us-central2-b \
#     segjax train --config=unet_em:paper --workdir=/shared/runs/paper --data_root=/shared/stacks
#
# --workdir lies where all workers see it, such as on Filestore. Every worker needs segjax[tpu].
# `predict` and `evaluate` go the same way: images are dealt out to the workers.
set -euo pipefail

if [ "$#" -lt 3 ]; then
  echo "Usage: $0 NAME ZONE COMMAND..." >&2
  exit 2
fi
name=$1 zone=$2
shift 2

exec gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$(printf '%q ' "$@")"
