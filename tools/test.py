"""Tests a checkpoint; OpenMMLab's flags, plus the branch of a semi-supervised model."""

import argparse
import os

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmdistill.core import launch
from mmdistill.core.compat import allow_mmengine_globals, trust_checkpoints
from mmdistill.core.errors import UserError, run_tool


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='folder for logs and metrics')
    parser.add_argument(
        '--branch',
        choices=['student', 'teacher', 'both'],
        help='branch to test; default: the one that the config predicts on',
    )
    parser.add_argument('--show-dir', help='folder for painted predictions (needs a visualizer)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
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


def choose_branch(cfg: Config, branch: str | None) -> None:
    """Sets what a semi-supervised model predicts on; ``both`` is up to :func:`main`.

    Raises:
        UserError: the model has no branches.
    """
    if branch is None:
        return
    if not str(cfg.model.get('type')).startswith('mmdistill.'):
        raise UserError(f'--branch {branch}: model {cfg.model.get("type")} has no branches')
    if branch != 'both':
        cfg.model.semi_test_cfg = dict(predict_on=branch)


def show_in(cfg: Config, folder: str) -> None:
    """Lets the visualization hook paint every prediction into a folder.

    Raises:
        UserError: the config has no visualization hook.
    """
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise UserError('--show-dir needs default_hooks.visualization and a visualizer')
    hook.draw = True
    hook.test_out_dir = os.path.abspath(folder)


def main() -> None:
    """Tests one branch, or both one after the other."""
    args = parse_args()
    cfg = launch.read_config(args.config, args.cfg_options)
    launch.choose_work_dir(cfg, args.config, args.work_dir)
    choose_branch(cfg, args.branch)
    if args.show_dir:
        show_in(cfg, args.show_dir)
    cfg.load_from, cfg.resume = args.checkpoint, False
    allow_mmengine_globals()
    launch.join_ranks(cfg, args.launcher)
    with trust_checkpoints(args.trust_checkpoint):
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        if args.branch == 'both':
            for branch in ('student', 'teacher'):
                model = getattr(runner.model, 'module', runner.model)
                model.predict_on = branch
                runner.logger.info('testing the %s', branch)
                runner.test()
        else:
            runner.test()
    launch.leave_ranks()


if __name__ == '__main__':
    run_tool(main)
