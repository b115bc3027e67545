#!/usr/bin/env bash
# dist_train.sh CONFIG GPUS [flags of tools/train.py]
# All GPUs of one machine, or of NNODES machines (set NODE_RANK, MASTER_ADDR, PORT there). Without
# a GPU the ranks train on the CPU. SIGTERM or SIGUSR1 is passed on to the ranks, which save and
# end; torchrun gives them 30 s.
set -euo pipefail
usage='usage: dist_train.sh CONFIG GPUS [flags of tools/train.py]'
CONFIG=${1:?$usage} GPUS=${2:?$usage}
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" --nproc_per_node "$GPUS" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}" \
    --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "${@:3}"
