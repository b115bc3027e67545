"""Trains a model; the flags are those of OpenMMLab."""

import argparse
import os

import mmdistill.core  # noqa: F401  # isort: skip  (first: see light_optim.py)

from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmdistill.core import launch
from mmdistill.core.compat import allow_mmengine_globals, trust_checkpoints
from mmdistill.core.errors import run_tool


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument('--amp', action='store_true', help='mixed precision (needs a GPU)')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the batch'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from a checkpoint; without a value from the newest valid one in the work dir',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=launch.ConfigOptions,
        help='key=value pairs that override the config; +key=value adds a key',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='run whatever code a checkpoint asks for; only for files whose maker you trust',
    )
    # torch.distributed.launch passes one or the other, depending on its release
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    """Trains."""
    args = parse_args()
    cfg = launch.read_config(args.config, args.cfg_options)
    launch.choose_work_dir(cfg, args.config, args.work_dir)
    launch.set_resume(cfg, args.resume)
    if args.amp:
        launch.set_amp(cfg)
    if args.auto_scale_lr:
        launch.set_auto_scale_lr(cfg)
    allow_mmengine_globals()
    launch.join_ranks(cfg, args.launcher)
    with trust_checkpoints(args.trust_checkpoint):
        build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
        try:
            build(cfg).train()
        except SystemExit:  # a preempted training has saved and ends with status 0
            launch.leave_ranks()
            raise
    launch.leave_ranks()


if __name__ == '__main__':
    run_tool(main)
