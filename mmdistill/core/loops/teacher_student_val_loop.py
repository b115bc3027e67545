"""Validates both branches."""

from mmengine.runner import ValLoop

from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.core.semi_model import BRANCHES
from mmdistill.registry import LOOPS


@LOOPS.register_module()
class TeacherStudentValLoop(ValLoop):
    """``ValLoop`` over student and teacher; metrics get the prefixes ``student/``, ``teacher/``."""

    def run(self) -> dict:
        """Evaluates both branches and restores ``predict_on``.

        Returns:
            Metrics of both branches.
        """
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        model = bare_model(self.runner)
        chosen, metrics = model.predict_on, {}
        try:
            for branch in BRANCHES:
                model.predict_on = branch
                for index, batch in enumerate(self.dataloader):
                    self.run_iter(index, batch)
                found = self.evaluator.evaluate(len(self.dataloader.dataset))
                metrics.update({f'{branch}/{name}': value for name, value in found.items()})
        finally:
            model.predict_on = chosen
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics
