"""Preemption is a normal end: all ranks save the same step and leave with status 0."""

import json
import os
import signal
import time
from pathlib import Path

from mmengine.hooks import Hook

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError
from mmdistill.core.hooks.safe_checkpoint import SafeCheckpointHook
from mmdistill.registry import HOOKS

MARKER = 'preempted'


@HOOKS.register_module()
class PreemptHook(Hook):
    """Turns SIGTERM or SIGUSR1 to any rank into a save on all ranks and exit status 0.

    The handler only notes the signal. ``SafeCheckpointHook`` asks all ranks after each
    iteration, of training and of validation, and saves. Then rank 0 writes
    ``WORK_DIR/preempted`` (JSON: signal, iter, checkpoint, time), which the next training
    removes, and every rank raises ``SystemExit(0)``.

    A second signal ends the process at once with status 128 + its number; checkpoints are
    written atomically, so nothing is damaged.

    Args:
        signals: Names of the signals.
        second_after: Seconds within which a further signal counts as the same request;
            launchers pass signals on, so that a process may get one twice.
    """

    priority = 'LOWEST'

    def __init__(
        self, signals: tuple[str, ...] = ('SIGTERM', 'SIGUSR1'), second_after: float = 2.0
    ) -> None:
        try:
            self._signals = [signal.Signals[name] for name in signals]
        except KeyError as error:
            raise UserError(f'PreemptHook: {error} is no signal of this system') from None
        self.second_after = float(second_after)
        self.received: int | None = None
        self._since = 0.0
        self._old: dict[int, object] = {}
        self._owner = 0

    def before_train(self, runner) -> None:
        """Installs the handlers and tells the checkpoint hook where to ask."""
        hook = next((h for h in runner.hooks if isinstance(h, SafeCheckpointHook)), None)
        if hook is None:
            raise UserError(
                'PreemptHook needs default_hooks=dict(checkpoint=dict('
                "type='mmdistill.SafeCheckpointHook', ...))"
            )
        hook.stop_requested = lambda: self.received is not None
        self._checkpoints = hook
        if runner.rank == 0:
            Path(runner.work_dir, MARKER).unlink(missing_ok=True)
        self._owner = os.getpid()
        self._old = {number: signal.signal(number, self._note) for number in self._signals}

    def _note(self, number: int, _frame: object) -> None:
        """The handler; also runs in forked workers, where the first signal is ignored."""
        if self.received is None:
            self.received, self._since = number, time.monotonic()
        elif os.getpid() != self._owner or time.monotonic() - self._since >= self.second_after:
            os._exit(128 + number)

    def after_stop_save(self, runner) -> None:
        """Ends the training; called by ``SafeCheckpointHook`` when everything is on disk.

        Raises:
            SystemExit: With status 0, always.
        """
        if runner.rank == 0:
            number = self.received
            about = dict(
                signal=None if number is None else signal.Signals(number).name,
                iter=self._checkpoints.saved_iter,
                checkpoint=self._checkpoints.last_ckpt,
                time=time.strftime('%Y-%m-%d %H:%M:%S'),
            )
            text = json.dumps(about).encode()
            write_atomic(Path(runner.work_dir, MARKER), lambda file: file.write(text))
            runner.logger.warning(
                f'Stopped by a signal after {about["iter"]} iterations, saved '
                f'{about["checkpoint"]}; the same command with --resume goes on'
            )
        self._checkpoints.wait()
        raise SystemExit(0)

    def after_train(self, runner) -> None:
        """Puts the old handlers back."""
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}
