#!/usr/bin/env bash
# dist_test.sh CONFIG CHECKPOINT GPUS [flags of tools/test.py]
set -euo pipefail
usage='usage: dist_test.sh CONFIG CHECKPOINT GPUS [flags of tools/test.py]'
CONFIG=${1:?$usage} CHECKPOINT=${2:?$usage} GPUS=${3:?$usage}
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" --nproc_per_node "$GPUS" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}" \
    "$(dirname "$0")/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"
