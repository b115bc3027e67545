"""What evaluations that are no pass over batches have in common."""

from __future__ import annotations

from mmengine.runner import BaseLoop

from mmdistill.core.rng import preserve_rng


class ScoringLoop(BaseLoop):
    """An evaluation in one piece, with the hooks of mmengine around it.

    It draws nothing from the training's generators. A subclass has :meth:`scores`; its form for
    ``test_cfg`` sets ``stage``.
    """

    stage = 'val'

    def run(self) -> dict[str, float]:
        """Scores, and tells the hooks."""
        runner, stage = self.runner, self.stage
        runner.call_hook(f'before_{stage}')
        runner.call_hook(f'before_{stage}_epoch')
        with preserve_rng():
            metrics = self.scores()
        runner.call_hook(f'after_{stage}_epoch', metrics=metrics)
        runner.call_hook(f'after_{stage}')
        return metrics

    def scores(self) -> dict[str, float]:
        """The metrics."""
        raise NotImplementedError
