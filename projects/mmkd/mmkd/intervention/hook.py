"""Tells the model how far the training is, and the log what is replaced."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdistill.core.hooks.teacher_update import bare_model
from mmkd.intervention.schedule import MODES
from mmkd.registry import HOOKS


@HOOKS.register_module()
class InterventionHook(Hook):
    """Sets the step of :class:`TeacherIntervention` before each iteration.

    The scalar ``ti/mode`` is 0 without intervention, 1 output, 2 context, 3 map.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Iterations count over both phases, and go on where a resumed run goes on."""
        model = bare_model(runner)
        model.step = runner.iter
        number = MODES.index(model.mode) + 1 if model.mode else 0
        runner.message_hub.update_scalar('train/ti/mode', number)
