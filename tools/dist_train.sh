#!/usr/bin/env bash
# dist_train.sh CONFIG GPUS [flags of tools/train.py]: all GPUs of one machine, or of NNODES machines.
set -euo pipefail
CONFIG=${1:?usage: dist_train.sh CONFIG GPUS [flags]}
GPUS=${2:?usage: dist_train.sh CONFIG GPUS [flags]}
exec torchrun --nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" --nproc_per_node "$GPUS" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "${@:3}"
