"""Moves the reviewer at intervals of real optimizer steps."""

from itertools import chain
from typing import Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import TASK_UTILS as ROOT_TASK_UTILS
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdistill.core.dist import broadcast_buffers, broadcast_tensors
from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model, require
from mmdistill.core.step_watch import StepWatch
from mmdistill.pose.reviewer import ReviewerPolicy, copy_finite
from mmdistill.registry import HOOKS

KEY = 'reviewer'
SOURCES = ('student', 'teacher')
EPOCH = 'epoch_equivalent'


@HOOKS.register_module()
class ReviewerUpdateHook(Hook):
    """Moves ``model.reviewer`` by a policy, our completion of TRS's reviewer.

    The model has beside ``student`` and ``teacher``

    * ``reviewer``: a network of the same structure, frozen and kept in evaluation mode by the
      model, or None, then the hook rests;
    * the buffer ``reviewer_steps``: -1 in a new model, later the optimizer steps that the
      reviewer has seen. It is in the checkpoint and carries the phase of the interval.

    Where ``reviewer_steps`` is -1 when training starts, and no checkpoint brought a reviewer, it
    becomes a copy of the source. What a policy must remember beside that is the entry
    ``reviewer`` of the checkpoint. Parameters move alike on all ranks; buffers are those of
    rank 0. The hook runs after ``TeacherUpdateHook``.

    Args:
        policy: config of a :class:`mmdistill.pose.reviewer.ReviewerPolicy`; default
            ``EmaReviewer`` with its ``keep`` of 0.5.
        source: ``'student'`` or ``'teacher'``.
        interval: optimizer steps between two updates, or ``'epoch_equivalent'``: as many as one
            pass over the unlabelled data takes (of a ``RatioSampler``, the source that lasts
            longest).
        check_interval: iterations between two looks at the number of refused updates.

    Raises:
        UserError: another source, an interval that is none, or a model without reviewer.
    """

    priority = 'BELOW_NORMAL'  # after the teacher, before checkpoints

    def __init__(
        self,
        policy: dict | None = None,
        source: str = 'student',
        interval: int | str = EPOCH,
        check_interval: int = 50,
    ) -> None:
        if source not in SOURCES:
            raise UserError(f'source must be one of {SOURCES}, got {source!r}')
        if interval != EPOCH and (type(interval) is not int or interval < 1):
            raise UserError(f'interval must be a number from 1 on or {EPOCH!r}, got {interval!r}')
        policy = dict(policy or dict(type='mmdistill.EmaReviewer'))
        self.policy: ReviewerPolicy = ROOT_TASK_UTILS.build(policy)
        self.source, self.interval, self.check_interval = source, interval, check_interval
        self._watch = StepWatch()
        self._loaded, self._training = False, False
        self._steps, self._every = 0, 0
        self._refused: Tensor | int = 0
        self._reported = 0

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Takes the policy's part of a checkpoint, and notes whether it has a reviewer."""
        keys = checkpoint.get('state_dict', checkpoint)
        self._loaded = any(
            f'.{key}'.startswith(('.reviewer.', '.module.reviewer.')) for key in keys
        )
        entry = checkpoint.get(KEY)
        if not isinstance(entry, dict) or 'policy' not in entry or not self._loaded:
            return
        mine = type(self.policy).__name__
        if entry['policy'] == mine:
            self.policy.load_state_dict(entry['state'])
        else:
            print_log(
                f'the reviewer of the checkpoint followed {entry["policy"]}, from now on it '
                f'follows {mine}, which remembers nothing of before',
                logger='current',
                level=30,
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds the policy's part."""
        entry = dict(policy=type(self.policy).__name__, state=self.policy.state_dict())
        checkpoint[KEY] = entry

    def before_train(self, runner: Runner) -> None:
        """Starts a new reviewer as a copy of the source; all ranks have that of rank 0."""
        model = bare_model(runner)
        if getattr(model, 'reviewer', model) is None:
            print_log('the model has no reviewer, ReviewerUpdateHook rests', logger='current')
            return
        require(runner, self, 'reviewer', 'reviewer_steps', *SOURCES)
        if int(model.reviewer_steps) < 0:
            if not self._loaded:
                self._moved(model, copy_finite(model.reviewer, self._origin(model)))
            model.reviewer_steps.zero_()
        broadcast_tensors(chain(model.reviewer.parameters(), model.reviewer.buffers()))
        self._every = self.interval if self.interval != EPOCH else steps_of_a_pass(runner)
        self._steps, self._training = int(model.reviewer_steps), True
        self._watch.attach(runner.optim_wrapper)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Counts the step if the optimizer made one, and updates when the interval is over."""
        if not self._training:
            return
        model = bare_model(runner)
        if self._watch.take():
            self._steps += 1
            model.reviewer_steps += 1
            if self._steps % self._every == 0:
                self._moved(model, self.policy.update(model.reviewer, self._origin(model)))
        if self.every_n_train_iters(runner, self.check_interval):
            self._report()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Shows the metrics of a validation within the training to the policy."""
        if self._training and metrics is not None:
            model = bare_model(runner)
            moved = self.policy.review(model.reviewer, self._origin(model), metrics)
            self._moved(model, moved)

    def after_train(self, runner: Runner) -> None:
        """Lets go of the optimizer."""
        if self._training:
            self._report()
            self._watch.detach()
            self._training = False

    def _origin(self, model: nn.Module) -> nn.Module:
        """Student or teacher."""
        return getattr(model, self.source)

    def _moved(self, model: nn.Module, finite: Tensor | None) -> None:
        """Makes buffers equal on all ranks and counts refusals, without waiting for the device."""
        if finite is None:
            return
        if get_world_size() > 1:
            broadcast_buffers(model.reviewer)
        self._refused = self._refused + (~finite).to(torch.long)

    def _report(self) -> None:
        """Warns when updates were refused since the last look."""
        refused = int(self._refused)
        if refused > self._reported:
            print_log(
                f'{refused - self._reported} reviewer updates were refused because the '
                f'{self.source} held NaN or infinite numbers',
                logger='current',
                level=30,
            )
            self._reported = refused


def steps_of_a_pass(runner: Runner) -> int:
    """Optimizer steps in which all ranks together see the defining data once, at least 1.

    Args:
        runner: the length of its data loader counts, which is a pass also for an endless
            :class:`mmdistill.core.samplers.RatioSampler`.
    """
    loader = runner.train_dataloader
    sampler = getattr(loader.batch_sampler, 'sampler', None) or loader.sampler
    shared = isinstance(sampler, InfiniteSampler)  # its length is that of all ranks together
    batches = -(-len(loader) // (get_world_size() if shared else 1))
    cycle = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    return max(-(-batches // cycle), 1)
