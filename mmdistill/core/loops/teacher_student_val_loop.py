"""Validates all branches."""

import copy
from collections.abc import Sequence

from mmengine.evaluator import Evaluator
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner, ValLoop
from torch.utils.data import DataLoader

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.core.plain_checkpoint import BRANCHES
from mmdistill.core.semi_model import SemiModel
from mmdistill.registry import LOOPS


@LOOPS.register_module()
class TeacherStudentValLoop(ValLoop):
    """``ValLoop`` over student and teacher; metrics get the prefixes ``student/``, ``teacher/``.

    The data are read once: every batch goes through all branches. Hooks see one validation:
    ``before_val`` and ``after_val`` once, ``after_val_epoch`` with the metrics of all
    branches, so ``save_best='teacher/...'`` works.

    Args:
        runner: the runner.
        dataloader: a ``DataLoader`` or its config.
        evaluator: an ``Evaluator``, or configs of metrics.
        fp16: predict in half precision.
        branches: which branches to evaluate, in this order; a ``reviewer`` where the method has
            one.

    Raises:
        UserError: an unknown branch, or a model that is no ``SemiModel`` or lacks a branch.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        fp16: bool = False,
        branches: Sequence[str] = ('student', 'teacher'),
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        unknown = [name for name in branches if name not in BRANCHES]
        if unknown or not branches:
            raise UserError(f'branches must be of {BRANCHES}, got {tuple(branches)}')
        self.branches = tuple(branches)
        self.evaluators = {
            name: copy.deepcopy(self.evaluator) if row else self.evaluator
            for row, name in enumerate(self.branches)
        }

    def run(self) -> dict[str, float]:
        """Evaluates the branches and restores ``predict_on``, whatever happens.

        Returns:
            Metrics of all evaluated branches.
        """
        model = bare_model(self.runner)
        if not isinstance(model, SemiModel):
            raise UserError(
                f'TeacherStudentValLoop needs a SemiModel, the model is a {type(model).__name__}: '
                "use val_cfg = dict(type='ValLoop')"
            )
        for branch in self.branches:
            model.branch(branch)
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        chosen, evaluator = model.predict_on, self.evaluator
        losses = {branch: {} for branch in self.branches}
        try:
            for index, batch in enumerate(self.dataloader):
                for branch in self.branches:
                    model.predict_on, self.evaluator = branch, self.evaluators[branch]
                    self.val_loss = losses[branch]
                    self.run_iter(index, batch)
        finally:
            model.predict_on, self.evaluator = chosen, evaluator
        metrics = {}
        for branch in self.branches:
            for name, value in self._evaluate(branch, losses[branch]).items():
                metrics[f'{branch}/{name}'] = value
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics

    def _evaluate(self, branch: str, buffers: dict[str, HistoryBuffer]) -> dict[str, float]:
        """Metrics and mean losses of one branch."""
        metrics = dict(self.evaluators[branch].evaluate(len(self.dataloader.dataset)))
        losses = {name: buffer.mean() for name, buffer in buffers.items()}
        if losses:
            losses['val_loss'] = sum(mean for name, mean in losses.items() if 'loss' in name)
        return {**metrics, **losses}
