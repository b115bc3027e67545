"""Kills and signals at chosen instants of a training, to test that nothing is lost.

List :class:`FaultHook` in ``custom_hooks`` of a test's config (``custom_imports`` of this
module), and set ``MMDISTILL_FAULT`` for the process that is to suffer.
"""

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mmdistill.core.checkpoint_io import seam
from mmdistill.core.errors import UserError
from mmdistill.registry import HOOKS

VARIABLE = 'MMDISTILL_FAULT'
STAGES = ('write', 'sync', 'replace', 'replaced', 'pointer', 'prune')


@dataclass(frozen=True)
class Fault:
    """What happens, and when. Conditions that are None do not count.

    Args:
        action: ``kill`` (SIGKILL), ``term`` (SIGTERM), ``usr1`` (SIGUSR1) or ``exit``
            (``SystemExit(7)``).
        iter: After this many iterations.
        val_iter: After this batch of a validation, from 0.
        save: In this save of the process, from 1.
        bytes: In the save, when this many bytes of the checkpoint are written.
        stage: In the save, before this step; see ``checkpoint_io.Seam``.
        seconds: This long after the start of the training.
        rank: Only on this rank.
        twice: Send a second signal this many seconds after the first one.
    """

    action: str
    iter: int | None = None
    val_iter: int | None = None
    save: int | None = None
    bytes: int | None = None
    stage: str | None = None
    seconds: float | None = None
    rank: int | None = None
    twice: float | None = None


def parse_fault(text: str) -> Fault:
    """Reads a fault such as ``kill:save=2@bytes=1000`` or ``usr1:iter=7@rank=1``.

    Args:
        text: ``action:condition=value@condition=value...``

    Returns:
        The fault.

    Raises:
        UserError: If it is not understood.
    """
    action, _, rest = text.partition(':')
    kinds = dict.fromkeys(('iter', 'val_iter', 'save', 'bytes', 'rank'), int)
    kinds.update(stage=str, seconds=float, twice=float)
    try:
        pairs = [item.split('=') for item in rest.split('@') if item]
        fault = Fault(action, **{key: kinds[key](value) for key, value in pairs})
    except (KeyError, ValueError) as error:
        raise UserError(f'{VARIABLE}={text!r} is not understood: {error}') from None
    if action not in ('kill', 'term', 'usr1', 'exit') or fault.stage not in (None, *STAGES):
        raise UserError(f'{VARIABLE}={text!r}: unknown action or stage')
    return fault


@HOOKS.register_module()
class FaultHook(Hook):
    """Lets a fault happen.

    Args:
        fault: See :func:`parse_fault`; None reads ``MMDISTILL_FAULT``, which may be unset.
        pace: Seconds that each iteration takes at least, so that a kill hits different places.
    """

    priority = 'VERY_HIGH'

    def __init__(self, fault: str | None = None, pace: float = 0.0) -> None:
        text = os.environ.get(VARIABLE, '') if fault is None else fault
        self.fault = parse_fault(text) if text else None
        self.pace, self._saves = pace, 0

    def before_train(self, runner) -> None:
        """Gets ready."""
        fault = self.fault
        if fault is None or fault.rank not in (None, get_rank()):
            self.fault = None
        elif fault.save is not None:
            seam.observer = self._observe
        elif fault.seconds is not None:
            timer = threading.Timer(fault.seconds, self._strike)
            timer.daemon = True
            timer.start()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Strikes after an iteration, before the hooks that save."""
        time.sleep(self.pace)
        fault = self.fault
        if fault is not None and fault.val_iter is None and fault.iter == runner.iter + 1:
            self._strike()

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Strikes within a validation."""
        fault = self.fault
        if fault is not None and fault.val_iter == batch_idx and fault.iter in (None, runner.iter):
            self._strike()

    def _observe(self, stage: str, path: Path, done: int) -> None:
        """Counts saves and strikes within one."""
        fault = self.fault
        if stage == 'write' and done == 0 and path.suffix == '.pth':
            self._saves += 1
        if self._saves != fault.save or stage != (fault.stage or 'write'):
            return
        if fault.bytes is None or done >= fault.bytes:
            self._strike()

    def _strike(self) -> None:
        """Does it."""
        if self.fault.action == 'exit':
            raise SystemExit(7)
        number = dict(kill=signal.SIGKILL, term=signal.SIGTERM, usr1=signal.SIGUSR1)
        os.kill(os.getpid(), number[self.fault.action])
        if self.fault.twice is not None:
            time.sleep(self.fault.twice)
            os.kill(os.getpid(), number[self.fault.action])
