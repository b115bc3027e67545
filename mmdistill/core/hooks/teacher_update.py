"""Moves the teacher after every real optimizer step."""

import copy
from itertools import chain
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import TASK_UTILS as ROOT_TASK_UTILS
from mmengine.runner import Runner

from mmdistill.core.dist import broadcast_buffers, broadcast_tensors, on_all_ranks
from mmdistill.core.ema import BUFFER_POLICIES, all_finite, apply_ema, paired_tensors
from mmdistill.core.errors import UserError
from mmdistill.core.semi_model import SemiModel
from mmdistill.core.step_watch import StepWatch
from mmdistill.registry import HOOKS


def bare_model(runner: Runner) -> SemiModel:
    """The model inside DDP and other wrappers."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def stepping_model(runner: Runner) -> Any:
    """What a loop steps: the wrapped model, or the bare one if its method is in its own step."""
    return bare_model(runner) if getattr(bare_model(runner), 'own_step', False) else runner.model


def tell_position(runner: Runner) -> None:
    """Sets ``cur_iter`` of a :class:`SemiModel`, whose random draws are functions of it."""
    model = bare_model(runner)
    if isinstance(model, SemiModel):
        model.cur_iter = runner.iter


def require(runner: Runner, hook: Hook, *names: str) -> None:
    """Refuses a model without the attributes that a hook works on.

    Args:
        runner: the runner.
        hook: the hook.
        *names: the attributes.

    Raises:
        UserError: the model lacks one.
    """
    model = bare_model(runner)
    lacking = [name for name in names if not hasattr(model, name)]
    if lacking:
        raise UserError(
            f'{type(hook).__name__} needs a SemiModel, the model is a {type(model).__name__} '
            f'without {", ".join(lacking)}: remove the hook or wrap the model'
        )


@HOOKS.register_module()
class TeacherUpdateHook(Hook):
    """EMA teacher; the momentum is a function of ``model.teacher_steps``, which is persistent.

    The teacher moves when the optimizer did: not within gradient accumulation, and not when a
    loss scaler threw the gradients away. On several ranks the teacher is the same everywhere:
    its buffers follow those of rank 0, and a student that is not finite on one rank is
    refused on all.

    Args:
        momentum: config of a momentum function, see :mod:`mmdistill.core.momentum`. With
            ``ramp_fraction`` and no ``max_iters``, the planned number of optimizer steps of
            this training is filled in.
        buffers: ``'copy'``, ``'ema'`` or ``'skip'``, see :func:`ema_update`.
        check_interval: iterations between two looks at the number of refused updates.

    Raises:
        UserError: an unknown buffer policy, or a model that is no ``SemiModel``.
    """

    priority = 'NORMAL'

    def __init__(
        self, momentum: dict | None = None, buffers: str = 'copy', check_interval: int = 50
    ) -> None:
        if buffers not in BUFFER_POLICIES:
            raise UserError(f'buffers must be one of {BUFFER_POLICIES}, got {buffers!r}')
        self._momentum_cfg = copy.deepcopy(dict(momentum or {}))
        self._momentum_cfg.setdefault('type', 'mmdistill.LinearRampMomentum')
        planned = 'ramp_fraction' in self._momentum_cfg and 'max_iters' not in self._momentum_cfg
        self.momentum = None if planned else ROOT_TASK_UTILS.build(dict(self._momentum_cfg))
        self.buffers, self.check_interval = buffers, check_interval
        self._watch = StepWatch()
        self._steps, self._reported = 0, 0

    def before_train(self, runner: Runner) -> None:
        """Reads the persistent counters once; all ranks start with the teacher of rank 0."""
        model = bare_model(runner)
        if not isinstance(model, SemiModel):
            raise UserError(
                f'TeacherUpdateHook needs a SemiModel, the model is a {type(model).__name__}: '
                'remove the hook or wrap the model'
            )
        if model.moves_teacher:
            raise UserError(
                f'{type(model).__name__} moves its teacher itself: remove TeacherUpdateHook'
            )
        if not model.teacher_frozen:
            raise UserError(
                f'the teacher of this {type(model).__name__} is trained by gradient: remove '
                'TeacherUpdateHook'
            )
        broadcast_tensors(chain(model.teacher.parameters(), model.teacher.buffers()))
        if self.momentum is None:
            cycle = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
            steps = -(-runner.max_iters // cycle)
            self.momentum = ROOT_TASK_UTILS.build(dict(self._momentum_cfg, max_iters=steps))
        self._watch.attach(runner.optim_wrapper)
        self._steps, self._reported = int(model.teacher_steps), int(model.skipped_steps)
        model.cur_iter = runner.iter

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Tells the model where it is."""
        bare_model(runner).cur_iter = runner.iter

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Updates the teacher if the optimizer stepped."""
        model = bare_model(runner)
        if self._watch.take():
            self._update(model)
        if self.every_n_train_iters(runner, self.check_interval):
            self._report(model)

    def after_train(self, runner: Runner) -> None:
        """Reports once more and lets go of the optimizer."""
        self._report(bare_model(runner))
        self._watch.detach()

    def _update(self, model: SemiModel) -> None:
        """One step of the average, equal on all ranks."""
        keep = self.momentum(self._steps)
        pairs = paired_tensors(model.teacher, model.student, self.buffers)
        finite = on_all_ranks(all_finite(pairs))
        apply_ema(pairs, keep, finite)
        if self.buffers != 'skip' and get_world_size() > 1:
            broadcast_buffers(model.teacher)
        self._steps += 1
        model.teacher_steps += 1
        model.skipped_steps += (~finite).to(model.skipped_steps)

    def _report(self, model: SemiModel) -> None:
        """Warns when updates were refused since the last look."""
        skipped = int(model.skipped_steps)
        if skipped > self._reported:
            print_log(
                f'{skipped - self._reported} teacher updates were refused because the student '
                'held NaN or infinite numbers; lower the learning rate or check the data',
                logger='current',
                level=30,
            )
            self._reported = skipped
