#!/usr/bin/env bash
# slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [flags of tools/train.py]
# Submits a batch job that slurm warns two minutes before its end (SIGUSR1): the training saves,
# all ranks end with status 0, and the job is requeued until WORK_DIR/finished exists.
set -euo pipefail
usage='usage: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [flags]'
PARTITION=${1:?$usage} JOB_NAME=${2:?$usage} CONFIG=${3:?$usage} WORK_DIR=${4:?$usage}
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
TRAIN=$(cd "$(dirname "$0")" && pwd)/train.py
mkdir -p "$WORK_DIR"
flags=$(printf ' %q' "${@:5}")
# shellcheck disable=SC2086
sbatch --requeue --open-mode=append --signal=USR1@120 \
    --partition="$PARTITION" --job-name="$JOB_NAME" --output="$WORK_DIR/slurm-%j.log" \
    --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE" --gres="gpu:$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" ${SRUN_ARGS:-} <<JOB
#!/usr/bin/env bash
warned=0
trap 'warned=1' USR1
srun --kill-on-bad-exit=1 python -u "$TRAIN" "$CONFIG" --work-dir "$WORK_DIR" --launcher slurm \
    --resume$flags &
step=\$!
wait \$step; status=\$?
while kill -0 \$step 2>/dev/null; do wait \$step; status=\$?; done
if [ \$status -eq 0 ] && [ \$warned -eq 1 ]; then
    scontrol requeue "\$SLURM_JOB_ID"
elif [ \$status -eq 0 ]; then
    touch "$WORK_DIR/finished"
fi
exit \$status
JOB
