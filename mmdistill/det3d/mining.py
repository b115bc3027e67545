"""Mining rounds of HSSDA: the teacher reads every training frame, thresholds and store move on."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Subset

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.core.hooks.threshold_refresh import ThresholdRefreshHook
from mmdistill.det3d.bank_feed import add_mined, semi_dataset
from mmdistill.registry import HOOKS

MOVING = {
    'GlobalAlignment',
    'GlobalRotScaleTrans',
    'LaserMix',
    'MultiScaleFlipAug3D',
    'ObjectBankSample',
    'ObjectNoise',
    'ObjectSample',
    'PolarMix',
    'RandomFlip3D',
    'RandomJitterPoints',
}
"""Transforms (and their subclasses) after which boxes do not lie where the file has them."""


def moving_transforms(transform: Any) -> list[str]:
    """Class names of the transforms that move points in a pipeline, however deep they sit."""
    if MOVING & {kind.__name__ for kind in type(transform).__mro__}:
        return [type(transform).__name__]
    inner = getattr(transform, 'transforms', transform)
    inner = inner if isinstance(inner, (list, tuple)) else getattr(inner, 'transforms', [])
    return [name for each in inner for name in moving_transforms(each)]


@HOOKS.register_module()
class PseudoMiningHook(ThresholdRefreshHook):
    """Every ``interval``: two-view teacher pass over all frames, thresholds, mining, bank.

    A model with ``mining.source='training_buffer'`` needs the pass in the first round alone.

    Every rank reads its share; rank 0 fits and mines; all ranks receive the same thresholds,
    store and bank. Each version of the store is also written to ``work_dir/pseudo_labels``.

    Args:
        interval: iterations (or epochs with ``by_epoch``) between two rounds; the paper's
            PV-RCNN uses 5 epochs.
        by_epoch: count epochs instead of iterations.
        begin: first iteration or epoch with a round.
        batch_size: frames per teacher batch.
        num_workers: loader processes.
    """

    def __init__(
        self,
        interval: int,
        by_epoch: bool = False,
        begin: int = 0,
        batch_size: int = 4,
        num_workers: int = 0,
    ) -> None:
        super().__init__(interval=interval, by_epoch=by_epoch, begin=begin)
        self.batch_size, self.num_workers = batch_size, num_workers

    def before_train(self, runner: Runner) -> None:
        """Refuses a pipeline that moves points: what is mined is stored in raw coordinates.

        Raises:
            UserError: the pipeline holds such a transform; the message names it.
        """
        super().before_train(runner)
        moving = moving_transforms(semi_dataset(runner.train_dataloader.dataset).pipeline)
        if moving:
            raise UserError(
                f'the pipeline of the training dataset holds {", ".join(moving)}, so mined boxes '
                'would be stored in augmented coordinates: remove it, the model makes the views '
                'itself (student_view, teacher_view, object_bank)'
            )

    def collect_records(self, runner: Runner) -> list[dict]:
        """This rank's records of its share of the frames, or of those of its training steps."""
        model = bare_model(runner)
        if model.buffer is not None and len(model.buffer):
            return model.buffered_records()
        model.cur_iter = runner.iter  # epochs begin before the teacher's hook has set it
        was_training = model.training
        model.eval()
        records = []
        for batch in self._frames(runner):
            data = model.data_preprocessor(batch, True)
            scenes = model.read_batch(data['inputs'], data['data_samples'])
            records.extend(model.mine(scenes))
        model.train(was_training)
        return records

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Keeps what the teacher said in this step, where rounds take it from there."""
        model = bare_model(runner)
        if model.buffer is not None and model.step_judgement is not None:
            model.buffer.add(*model.step_judgement)
            model.step_judgement = None

    def _frames(self, runner: Runner) -> Iterator[Any]:
        """Batches of this rank's frames in a fixed order; no global random number is drawn."""
        dataset = runner.train_dataloader.dataset
        rows = range(get_rank(), len(dataset), get_world_size())
        loader = DataLoader(
            Subset(dataset, rows),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=pseudo_collate,
            generator=torch.Generator(),
        )
        return iter(loader)

    def after_refresh(self, runner: Runner) -> None:
        """Every rank: the bank takes the mined objects; rank 0 writes the store and a summary."""
        model = bare_model(runner)
        if model.buffer is not None:
            model.buffer.clear()  # its overlaps are with labels that the round has changed
        if model.bank is not None:
            add_mined(model.bank, semi_dataset(runner.train_dataloader.dataset), model.store)
        if get_rank() != 0:
            return
        model.store.save(runner.work_dir, model.class_names)
        counts = torch.bincount(model.store.labels, minlength=len(model.class_names)).tolist()
        runner.message_hub.update_scalar('train/store/boxes', sum(counts))
        limits = (model.filter.high.tolist(), model.filter.low.tolist())
        parts = []
        for label, name in enumerate(model.class_names):
            runner.message_hub.update_scalar(f'train/store/{name}', counts[label])
            pairs = []
            for row, score in enumerate(model.score_names):
                high, low = (each[row][label] for each in limits)
                pairs.append(f'{score} {high:.2f}/{low:.2f}')
            parts.append(f'{name}: {counts[label]} mined, thresholds {", ".join(pairs)}')
        print_log(f'mining round {int(model.store.version)}: ' + '; '.join(parts), logger='current')
