"""Tests a checkpoint; the flags are those of OpenMMLab, plus the branch of a model."""

import argparse
import json
import os
from pathlib import Path

import mmdistill.core  # noqa: F401  # isort: skip  (first: see light_optim.py)

from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import Runner

from mmdistill.core import launch
from mmdistill.core.checkpoint_content import plain_model
from mmdistill.core.checkpoint_io import read_record, why_invalid
from mmdistill.core.compat import allow_mmengine_globals, trust_checkpoints
from mmdistill.core.errors import UserError, run_tool
from mmdistill.core.semi_model import SemiModel


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--work-dir', help='folder for logs and metrics.json')
    parser.add_argument(
        '--branch',
        choices=['student', 'teacher', 'both'],
        help='what to test of a teacher-student model; default: what its config predicts on',
    )
    parser.add_argument('--show-dir', help='folder for painted predictions')
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


def check_checkpoint(path: str) -> None:
    """Looks at the checkpoint before anything is built.

    Args:
        path: File or URL.

    Raises:
        UserError: If the file is missing, or was written by us and is damaged.
    """
    if '://' in path:
        return
    if not Path(path).is_file():
        raise UserError(f'{path}: there is no such checkpoint')
    if read_record(path) is not None and (reason := why_invalid(path)):
        raise UserError(f'{path}: {reason}; take another file')


def branches_to_test(cfg: Config, branch: str | None) -> list[str | None]:
    """Turns ``--branch`` into a list.

    Args:
        cfg: The config.
        branch: None, ``student``, ``teacher`` or ``both``.

    Returns:
        The branches; None stands for the model as it is.

    Raises:
        UserError: If the model has no branches.
    """
    if branch is None:
        return [None]
    kind = MODELS.get(str(cfg.model.get('type')))
    if not (isinstance(kind, type) and issubclass(kind, SemiModel)):
        raise UserError(f'--branch {branch}: {cfg.model.get("type")} has no student and teacher')
    return ['student', 'teacher'] if branch == 'both' else [branch]


def show_in(cfg: Config, folder: str) -> None:
    """Lets the visualization hook paint every prediction into a folder.

    Args:
        cfg: The config, changed in place.
        folder: The folder.

    Raises:
        UserError: If the config has no visualization hook.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise UserError(
            '--show-dir needs a hook that paints: default_hooks=dict(visualization=dict('
            "type='Det3DVisualizationHook')) for 3D detection, and a visualizer"
        )
    hook.draw, hook.test_out_dir = True, os.path.abspath(folder)


def main() -> None:
    """Tests."""
    args = parse_args()
    cfg = launch.read_config(args.config, args.cfg_options)
    launch.choose_work_dir(cfg, args.config, args.work_dir)
    check_checkpoint(args.checkpoint)
    branches = branches_to_test(cfg, args.branch)
    if args.show_dir:
        show_in(cfg, args.show_dir)
    if cfg.get('test_dataloader') is None:
        raise UserError(f'{args.config}: there is no test_dataloader to test on')
    cfg.load_from, cfg.resume = args.checkpoint, False
    launch.join_ranks(cfg, args.launcher)
    allow_mmengine_globals()
    results = {}
    with trust_checkpoints(args.trust_checkpoint):
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        for branch in branches:
            if branch is not None:
                plain_model(runner.model).predict_on = branch
                runner.logger.info(f'Testing the {branch}')
            results[branch or 'model'] = runner.test()
    if runner.rank == 0:
        path = Path(runner.work_dir, 'metrics.json')
        path.write_text(json.dumps(results, indent=1, default=float))
        runner.logger.info(f'Metrics are in {path}')
    launch.leave_ranks()


if __name__ == '__main__':
    run_tool(main)
