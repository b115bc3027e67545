"""Which checkpoint a training goes on from, and its place in the data."""

from pathlib import Path
from typing import Any

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader, Sampler

from mmdistill.core.checkpoint_folder import newest_valid
from mmdistill.core.checkpoint_io import why_invalid
from mmdistill.core.dist import broadcast_object
from mmdistill.core.errors import UserError
from mmdistill.core.rank_state import restore_model_part


def choose_checkpoint(runner, folder: Path, template: str) -> str | None:
    """Finds the file to resume from; rank 0 looks, all ranks get its answer.

    Args:
        runner: A runner with ``resume`` set, not resumed so far.
        folder: Where checkpoints are written.
        template: Name pattern of the checkpoints.

    Returns:
        The file, or None when there is none so far and the training starts anew.

    Raises:
        UserError: On all ranks, if the named file or every file in the folder is damaged.
    """
    path = error = None
    if runner.rank == 0:
        try:
            path = _choose(runner, folder, template)
        except UserError as problem:
            error = str(problem)
    path, error = broadcast_object((path, error))
    if error is not None:
        raise UserError(error)
    return path


def _choose(runner, folder: Path, template: str) -> str | None:
    """The part of rank 0; the runner keeps what it was asked for in private fields."""
    wanted = runner._load_from
    if runner._resume == 'auto' or wanted is None:
        path = newest_valid(folder, template, log=runner.logger.warning)
        if path is None:
            runner.logger.warning(f'Nothing to resume in {folder} so far: starting anew')
            return None
        return str(path)
    reason = None if '://' in wanted else why_invalid(wanted)
    if reason is not None:
        raise UserError(
            f'{wanted}: cannot resume from it, {reason}. Give another file, or --resume alone '
            'for the newest valid one in the work dir'
        )
    return wanted


def restore_place(runner, saved: dict[str, Any]) -> None:
    """Restores the sampler's seed, a validation that is due, and this rank's part of the model.

    Args:
        runner: The runner, resumed by mmengine already.
        saved: What ``SafeCheckpointHook`` added to the checkpoint.

    Raises:
        UserError: Other samples have labels than when the checkpoint was written.
    """
    loop, warn = runner.train_loop, runner.logger.warning
    here, there = data_identity(runner), saved['data']
    if there.get('split') not in (None, here['split']):
        raise UserError(
            f'the checkpoint was trained with the split {there["split"]} of the training data, '
            f'this run has {here["split"]}: resume with the same split_file, or begin a new run'
        )
    for key in ('length', 'batch_size', 'world_size'):
        if there[key] != here[key]:
            warn(
                f'{key} of the training data is {here[key]} and was {there[key]} in the '
                'checkpoint: the order of the samples differs from an unbroken run'
            )
    if there['seed'] is not None and here['seed'] != there['seed']:
        training_sampler(loop.dataloader).seed = there['seed']
    if hasattr(loop, 'val_pending'):
        loop.val_pending = saved['val_due'] and runner.val_loop is not None
    elif type(loop) is IterBasedTrainLoop:
        warn('IterBasedTrainLoop replays the data; mmdistill.IterTrainLoop resumes exactly')
    elif type(loop) is EpochBasedTrainLoop and runner.iter % len(loop.dataloader):
        warn(
            'The checkpoint lies within an epoch, which EpochBasedTrainLoop starts again; '
            'mmdistill.EpochTrainLoop goes on within it'
        )
    if len(saved['ranks']) == runner.world_size:
        restore_model_part(runner, saved['ranks'][runner.rank])


def training_sampler(loader: DataLoader) -> Sampler:
    """Finds the sampler that chooses the indices of a data loader.

    Args:
        loader: The loader, with or without a batch sampler of its own.

    Returns:
        The sampler.
    """
    inner = getattr(loader.batch_sampler, 'sampler', None)
    return loader.sampler if inner is None else inner


def data_identity(runner) -> dict[str, Any]:
    """Says what has to be equal for two runs to see the samples in the same order.

    Args:
        runner: A runner whose train loop is built.

    Returns:
        The sampler's seed, the dataset's length, the batch size, the number of ranks, and
        ``split_id`` of the dataset: which samples have labels, None where it does not say.
    """
    loader = runner.train_loop.dataloader
    seed = getattr(training_sampler(loader), 'seed', None)
    return dict(
        seed=None if seed is None else int(seed),
        length=len(loader.dataset),
        batch_size=loader.batch_size or getattr(loader.batch_sampler, 'batch_size', None),
        world_size=runner.world_size,
        split=getattr(loader.dataset, 'split_id', None),
    )
