#!/usr/bin/env bash
# dist_test.sh CONFIG CHECKPOINT GPUS [flags of tools/test.py]
set -euo pipefail
CONFIG=${1:?usage: dist_test.sh CONFIG CHECKPOINT GPUS [flags]}
CHECKPOINT=${2:?usage: dist_test.sh CONFIG CHECKPOINT GPUS [flags]}
GPUS=${3:?usage: dist_test.sh CONFIG CHECKPOINT GPUS [flags]}
exec torchrun --nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" --nproc_per_node "$GPUS" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}" \
    "$(dirname "$0")/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"
