"""A model, its weights and some batches from a config, to measure its loss again and again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import Tensor, nn

from mmdistill.core.compat import safe_load
from mmdistill.core.errors import UserError
from mmdistill.core.modes import evaluating
from mmkd.intervention.teacher_intervention import TeacherIntervention
from mmkd.models.frozen_teacher import FrozenTeacher
from mmkd.signals.observer import Signals

LOADERS = dict(val='val_dataloader', train='train_dataloader')


def build_model(cfg: Mapping[str, Any], device: str, seed: int = 0) -> BaseModel:
    """The model of a config, without trained weights.

    Args:
        cfg: as :func:`mmdistill.core.launch.read_config` reads it.
        device: where it goes.
        seed: of weights that no checkpoint gives, where the config's ``randomness`` has none; with
            that a teacher with random weights is the one of the training.

    Raises:
        UserError: there is no model, one that has no losses to sum, or no such device.
    """
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise UserError(f'there is no device {device}: choose --device cpu')
    if not cfg.get('model'):
        raise UserError('the config has no model')
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    own = (cfg.get('randomness') or {}).get('seed')
    set_random_seed(seed if own is None else own)
    model = MODELS.build(cfg['model'])
    if not isinstance(model, BaseModel):
        raise UserError(
            f'{type(model).__name__} is no BaseModel of mmengine: its losses cannot be summed'
        )
    return model.to(device)


def load_weights(model: nn.Module, path: str) -> None:
    """Gives a model the weights of a checkpoint of a training.

    Args:
        model: of the config of that training.
        path: of the checkpoint.

    Raises:
        UserError: the weights are not those of this model.
    """
    content = safe_load(path)
    state = content.get('state_dict', content) if isinstance(content, Mapping) else {}
    wanted = model.state_dict()
    for names, said in (
        (wanted.keys() - state.keys(), 'lacks'),
        (state.keys() - wanted.keys(), 'also has'),
        (
            {
                name
                for name in wanted.keys() & state.keys()
                if _shape(state[name]) != _shape(wanted[name])
            },
            'has another shape of',
        ),
    ):
        if names:
            raise UserError(
                f'{path}: {said} {min(names)!r} ({len(names)} in all), unlike the model of the '
                'config: use the config it was trained with'
            )
    model.load_state_dict(state)


def _shape(value: Any) -> Any:
    """Of a tensor."""
    return getattr(value, 'shape', None)


def take_batches(
    cfg: Mapping[str, Any], model: BaseModel, which: str, count: int, seed: int
) -> list[Any]:
    """The first batches of a data loader, preprocessed, on the model's device.

    Args:
        cfg: has the data loader.
        model: its preprocessor is used.
        which: ``'val'`` or ``'train'``.
        count: at most; a shorter loader gives what it has.
        seed: of the order and of random changes to the samples.

    Raises:
        UserError: there is no such data loader, or no batch.
    """
    if count < 1:
        raise UserError(f'there must be at least 1 batch, got {count}')
    key = LOADERS[which]
    if not cfg.get(key):
        raise UserError(f'the config has no {key}: choose the other one with --data')
    set_random_seed(seed)
    loader = Runner.build_dataloader(cfg[key], seed=seed)
    batches = [model.data_preprocessor(batch, False) for batch in islice(loader, count)]
    if not batches:
        raise UserError(f'{key}: there is no batch')
    return batches


def batch_loss(model: BaseModel, batch: Any) -> Tensor:
    """All losses of a batch, summed as in training.

    Args:
        model: in the mode in which it is to be measured.
        batch: preprocessed.

    Raises:
        UserError: there is no loss among the results.
    """
    total, _ = model.parse_losses(model._run_forward(batch, mode='loss'))
    if not isinstance(total, Tensor):
        raise UserError(f'{type(model).__name__} gives no loss: its losses need loss in their name')
    return total


def mean_loss(model: BaseModel, batches: Sequence[Any]) -> Tensor:
    """Mean over batches, each counting the same."""
    return torch.stack([batch_loss(model, batch) for batch in batches]).mean()


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Parameters with gradients.

    Raises:
        UserError: there are none.
    """
    found = [each for each in model.parameters() if each.requires_grad]
    if not found:
        raise UserError(f'{type(model).__name__} has no parameter that is trained')
    return found


class RememberingTeacher:
    """Runs a frozen teacher once for each batch.

    The weights of the student move, the teacher's results stay: they are kept as long as this
    object lives, on the device where they were made.

    Args:
        teacher: never changes.
    """

    def __init__(self, teacher: FrozenTeacher) -> None:
        self.teacher = teacher
        self._kept: dict[tuple, tuple[Any, Signals]] = {}

    def __call__(self, inputs: Mapping[str, Any], kinds: Collection[str] = ()) -> Signals:
        """As the teacher; the same object for the same inputs and kinds."""
        key = id(inputs), frozenset(kinds)
        if key not in self._kept:
            self._kept[key] = inputs, self.teacher(inputs, kinds)  # the inputs keep their id
        return self._kept[key][1]


@contextmanager
def measured(model: BaseModel) -> Iterator[None]:
    """For a block, a model as it is to be measured; afterwards it is as it was.

    It is in evaluation mode, without dropout, and does not count steps. Teacher Intervention is
    past its first phase: its loss is that of the quantized student alone, without interventions.
    """
    with evaluating(model):
        if not isinstance(model, TeacherIntervention):
            yield
            return
        step, teacher = model.step, model.teacher
        model.step, model.teacher = model.intervention_steps, RememberingTeacher(teacher)
        try:
            yield
        finally:
            model.step, model.teacher = step, teacher


def checked(checkpoints: Sequence[str], labels: Sequence[str] | None) -> list[str]:
    """Names of checkpoints for pictures; by default folder and file.

    Args:
        checkpoints: paths.
        labels: as many names, or None.

    Raises:
        UserError: a checkpoint is missing, there is another number of names, or one comes twice.
    """
    for path in checkpoints:
        if not Path(path).is_file():
            raise UserError(f'{path}: there is no such checkpoint')
    if labels is None:
        names = ['/'.join(Path(path).resolve().with_suffix('').parts[-2:]) for path in checkpoints]
    else:
        names = list(labels)
    if len(names) != len(checkpoints):
        raise UserError(
            f'--label gives {len(names)} names for {len(checkpoints)} checkpoints: give as many'
        )
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(
            f'two checkpoints are called {min(twice)!r}: give each a --label of its own'
        )
    return names
