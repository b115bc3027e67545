"""Moves the teacher after every real optimizer step."""

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import TASK_UTILS as ROOT_TASK_UTILS
from mmengine.runner import Runner

from mmdistill.core.dist import broadcast_buffers
from mmdistill.core.ema import ema_update
from mmdistill.core.semi_model import SemiModel
from mmdistill.registry import HOOKS


def bare_model(runner: Runner) -> SemiModel:
    """The model inside DDP and other wrappers."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@HOOKS.register_module()
class TeacherUpdateHook(Hook):
    """EMA teacher; the momentum is a function of ``model.teacher_steps``, which is persistent.

    With gradient accumulation the teacher moves only when the optimizer did.

    Args:
        momentum: config of a momentum function, see :mod:`mmdistill.core.momentum`.
        buffers: ``'copy'``, ``'ema'`` or ``'skip'``, see :func:`ema_update`.
        check_interval: iterations between two looks at the number of refused updates.
    """

    priority = 'NORMAL'

    def __init__(
        self, momentum: dict | None = None, buffers: str = 'copy', check_interval: int = 50
    ) -> None:
        momentum = dict(momentum or dict(type='mmdistill.LinearRampMomentum'))
        self.momentum = ROOT_TASK_UTILS.build(momentum)
        self.buffers, self.check_interval = buffers, check_interval
        self._steps, self._reported = 0, 0

    def before_train(self, runner: Runner) -> None:
        """Reads the persistent counters once; all ranks start with the teacher of rank 0."""
        model = bare_model(runner)
        broadcast_buffers(model)
        self._steps = int(model.teacher_steps)
        self._reported = int(model.skipped_steps)
        model.cur_iter = runner.iter

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Tells the model where it is."""
        bare_model(runner).cur_iter = runner.iter

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Updates the teacher if the optimizer stepped."""
        if not stepped(runner):
            return
        model = bare_model(runner)
        keep = self.momentum(self._steps)
        finite = ema_update(model.teacher, model.student, keep, self.buffers)
        self._steps += 1
        model.teacher_steps += 1
        model.skipped_steps += (~finite).to(model.skipped_steps)
        if self.every_n_train_iters(runner, self.check_interval):
            self._report(model)

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


def stepped(runner: Runner) -> bool:
    """True when the iteration that just ended moved the parameters."""
    wrapper = runner.optim_wrapper
    scaler = getattr(wrapper, 'loss_scaler', None)
    inner = getattr(wrapper, '_inner_count', None)
    cycle = getattr(wrapper, '_accumulative_counts', 1)
    total = getattr(wrapper, '_max_counts', -1)
    if inner is None or cycle == 1:
        moved = True
    else:
        moved = inner % cycle == 0 or inner == total
    if moved and scaler is not None and getattr(scaler, 'is_enabled', lambda: False)():
        moved = not getattr(scaler, '_mmdistill_skipped', False)
    return moved
