#!/usr/bin/env bash
# slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [flags of tools/train.py]
#
# Submits a batch job that outlives its time limit and preemption: slurm warns all ranks with
# SIGUSR1 (GRACE seconds before the end) or SIGTERM, they save the same step, leave
# WORK_DIR/preempted behind and end with status 0; then the job puts itself back into the queue
# and goes on from there. A training that fails or is done is not requeued.
#
# From the environment: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), GRACE (120 s), PYTHON,
# SRUN_ARGS and SBATCH_ARGS (more options, --time=... for instance).
set -euo pipefail
usage='usage: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [flags of tools/train.py]'
PARTITION=${1:?$usage} JOB_NAME=${2:?$usage} CONFIG=${3:?$usage} WORK_DIR=${4:?$usage}
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
[ "$GPUS_PER_NODE" -le "$GPUS" ] || GPUS_PER_NODE=$GPUS
TRAIN=$(cd "$(dirname "$0")" && pwd)/train.py
mkdir -p "$WORK_DIR"
command=$(printf '%q ' "${PYTHON:-python}" -u "$TRAIN" "$CONFIG" \
    --work-dir "$WORK_DIR" --launcher slurm --resume "${@:5}")
marker=$(printf '%q' "$WORK_DIR/preempted")
# shellcheck disable=SC2086
sbatch --requeue --open-mode=append --signal="USR1@${GRACE:-120}" \
    --partition="$PARTITION" --job-name="$JOB_NAME" --output="$WORK_DIR/slurm-%j.log" \
    --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE" --gres="gpu:$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" ${SBATCH_ARGS:-} <<JOB
#!/usr/bin/env bash
trap : USR1 TERM  # meant for the ranks; this script waits for them
rm -f $marker
srun --kill-on-bad-exit=1 ${SRUN_ARGS:-} $command
status=\$?
if [ \$status -eq 0 ] && [ -e $marker ]; then
    echo "preempted: back into the queue"
    scontrol requeue "\$SLURM_JOB_ID"
fi
exit \$status
JOB
