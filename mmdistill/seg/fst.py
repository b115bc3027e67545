"""FST: self-training with the labels of a future teacher (arXiv:2209.06993).

In self-training the labels for the student ``theta_t`` come from a teacher made of past students.
FST asks a teacher that already knows the next student. One step, with ``L`` of
:mod:`mmdistill.seg.semi_seg` and ``Opt`` a step of the optimizer::

    g         = grad L(theta_t; phi_t, B)            a virtual gradient
    theta', _ = Opt(theta_t, g, s_t)                 the virtual student; nothing is stepped
    phi+      = mu' phi_t + (1 - mu') theta'         the future teacher
    theta_t+1, s_t+1 = Opt(theta_t, grad L(theta_t; phi+, B), s_t)

FST-D (deep) makes ``depth`` virtual steps in series; FST-W (wide) makes ``width`` of them from the
same place and averages the virtual students. The body of the paper could not be read: known are
its abstract and the published code, which is what the defaults follow. ``ephemeral``, the text
above word for word, and ``virtual_keep`` (mu') are our completion.

Policies, by what the teacher averages in a step and keeps:

* ``mt``: theta_t (mean teacher, the control; no virtual step);
* ``official_d``: theta_t, theta'_1, ..., theta'_depth, all with one keep factor, so a teacher moves
  ``depth + 1`` times as fast as in ``mt``: the fair control is ``mt`` with ``keep ** (depth + 1)``;
* ``official_w``: the mean of the virtual students, then theta_t+1;
* ``official_ssl``: as ``official_d``, then theta_t+1 too (so every student counts twice);
* ``ephemeral``: theta_t; what the virtual students add is forgotten after the labels are made.

Switches whose published value is the default: ``optimizer_state`` and ``buffers`` (``'leaky'``: the
virtual steps are real ones of optimizer and running statistics, only parameters are put back;
``'isolated'``: nothing of them is left), ``virtual_data``, ``draws``, ``reuse``.

What costs less without another result: source gradient and reference features at ``theta_t`` are
taken once (``reuse``); with ``draws='share'`` and isolated steps (a series: with ``reuse`` too) the
student's forward pass at ``theta_t`` on the mixed images, which do not depend on the teacher,
serves the backward passes of the first virtual and of the real step. A single isolated virtual step
is streamed into the teacher and needs no memory for parameters.

Deviations from the published code beside those of the frame: gradients are averaged over ranks
(theirs run on one GPU or bypass the reduction); the first epoch of the semi-supervised code, in
which teacher and student share their memory, is not repeated; unlabelled entropies come from the
teacher's labelling pass.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmdistill.core.ema import BUFFER_POLICIES
from mmdistill.core.errors import UserError
from mmdistill.core.follower import Follower
from mmdistill.core.functional_student import NetworkAt
from mmdistill.core.gradients import (
    Gradients,
    add_,
    all_finite,
    clipped,
    gradients,
    loss_scale,
    mean_over_ranks_,
)
from mmdistill.core.look_ahead import Chunk, IsolatedSteps, LeakySteps
from mmdistill.core.virtual_step import VirtualOptimizer
from mmdistill.registry import MODELS
from mmdistill.seg.seg_batch import Seen, SegBatch, StudentView, look, look_at_both
from mmdistill.seg.semi_seg import Losses, SemiSeg


@dataclass(frozen=True)
class Policy:
    """What the teacher averages in one step.

    Attributes:
        before: theta_t, before the virtual steps.
        virtual: ``'each'`` virtual student, their ``'mean'``, or the last one until the labels are
            made (``'forget'``).
        after: theta_t+1.
        counter: what the warm-up of the keep factor counts, ``'steps'`` or forward ``'passes'``.
        plain_first: the first step has no virtual ones and is averaged in at its end.
    """

    before: bool
    virtual: str
    after: bool = False
    counter: str = 'steps'
    plain_first: bool = False


POLICIES = {
    'mt': Policy(before=True, virtual='none'),
    'official_d': Policy(before=True, virtual='each', counter='passes', plain_first=True),
    'official_w': Policy(False, 'mean', after=True, counter='passes', plain_first=True),
    'official_ssl': Policy(before=True, virtual='each', after=True),
    'ephemeral': Policy(before=True, virtual='forget'),
}
CHOICES = dict(
    policy=tuple(POLICIES),
    optimizer_state=('leaky', 'isolated'),
    buffers=('leaky', 'isolated'),
    virtual_data=('same', 'fresh'),
    draws=('redraw', 'share'),
    teacher_buffers=BUFFER_POLICIES,
)


@dataclass
class Memo:
    """What the passes of one step at theta_t have in common.

    Attributes:
        sup: gradient and losses of the labelled images.
        reference: their features in the frozen backbone.
        seen: the student's look at its view, with graph; in joint passes at labelled images too.
        view: the student's view.
        labels: the teacher's before it looked ahead.
        changed: share of them that are others afterwards.
    """

    sup: tuple[Gradients, Losses] | None = None
    reference: Any = None
    seen: Seen | tuple[Seen, Seen] | None = None
    view: StudentView | None = None
    labels: Tensor | None = None
    changed: Tensor | None = None


@MODELS.register_module()
class FST(SemiSeg):
    """The method; see the module's docstring, and :class:`SemiSeg` for shared arguments.

    Its step lives in :meth:`train_step`. mmengine's DDP wrapper never calls that; our training
    loops do, and gradients are averaged over ranks here.

    Args:
        policy: see above.
        depth: virtual steps in series (K); 0 makes ``mt`` of every policy.
        width: virtual students from one place (N); only one of the two may be above 1.
        keep: keep factor of the teacher (mu); it warms up as ``min(1 - 1 / (n + 1), keep)``.
        virtual_keep: keep factor for virtual students (mu'), without warm-up; None: ``keep``.
        optimizer_state: ``'leaky'`` or ``'isolated'``.
        buffers: ``'leaky'`` or ``'isolated'`` running statistics of the student.
        virtual_data: ``'same'`` images in virtual and real passes, or ``'fresh'`` ones: then a
            batch of the loader is split evenly, the first part is the real one.
        draws: ``'redraw'`` mixing and colours in every pass, or ``'share'`` them.
        reuse: one gradient of the labelled images for all passes at theta_t on the same data; in
            joint passes there is none by itself.
        teacher_buffers: running statistics of the teacher after a step: ``'copy'``, ``'ema'`` or
            ``'skip'`` (published: its own, which nothing reads).
        **shared: arguments of :class:`SemiSeg`.

    Raises:
        UserError: a value out of range, or switches that do not go together.
    """

    own_step = True
    moves_teacher = True

    def __init__(
        self,
        *,
        policy: str = 'official_d',
        depth: int = 3,
        width: int = 1,
        keep: float = 0.999,
        virtual_keep: float | None = None,
        optimizer_state: str = 'leaky',
        buffers: str = 'leaky',
        virtual_data: str = 'same',
        draws: str = 'redraw',
        reuse: bool = False,
        teacher_buffers: str = 'copy',
        **shared: Any,
    ) -> None:
        given = dict(
            policy=policy,
            optimizer_state=optimizer_state,
            buffers=buffers,
            virtual_data=virtual_data,
            draws=draws,
            teacher_buffers=teacher_buffers,
        )
        for name, value in given.items():
            if value not in CHOICES[name]:
                raise UserError(f'{name} must be one of {CHOICES[name]}, got {value!r}')
        if depth < 0 or width < 1 or (depth > 1 and width > 1):
            raise UserError(
                f'depth must be at least 0, width at least 1, and only one of them above 1, got '
                f'depth={depth}, width={width}'
            )
        series, parallel = policy in ('official_d', 'official_ssl'), policy == 'official_w'
        if (series and width > 1) or (parallel and depth > 1):
            raise UserError(f'policy {policy!r} does not go with depth={depth}, width={width}')
        for name, value in dict(keep=keep, virtual_keep=virtual_keep).items():
            if value is not None and not 0 <= value <= 1:
                raise UserError(f'{name} must lie in [0, 1], got {value}')
        super().__init__(**shared)
        self.policy = POLICIES['mt' if depth == 0 else policy]
        self.ahead = 0 if self.policy.virtual == 'none' else depth * width
        self.width, self.keep, self.virtual_keep = width, keep, virtual_keep
        self.leaky_optimizer, self.leaky_buffers = optimizer_state == 'leaky', buffers == 'leaky'
        self.fresh, self.share = virtual_data == 'fresh', draws == 'share'
        self.reuse, self.teacher_buffers = reuse, teacher_buffers
        self.register_buffer('steps_done', torch.zeros((), dtype=torch.long))
        self.register_buffer('passes_done', torch.zeros((), dtype=torch.long))
        self._counts: dict[str, int] | None = None
        self._follower = Follower(self.teacher, self.student)
        self._virtual: VirtualOptimizer | None = None

    # ------------------------------------------------------------------ one step

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Virtual steps, the future teacher's labels, and one real step.

        Args:
            data: a batch of the loader.
            optim_wrapper: of an optimizer that :class:`VirtualOptimizer` knows.

        Returns:
            Losses of the real pass, for the log; ``future/changed_labels`` is the share of the
            teacher's labels that are others after it has looked ahead.

        Raises:
            UserError: gradient accumulation, or an unknown optimizer.
        """
        if getattr(optim_wrapper, '_accumulative_counts', 1) != 1:
            raise UserError(
                'FST makes an optimizer step per batch: set optim_wrapper.accumulative_counts to 1'
            )
        self._look_along(optim_wrapper.optimizer)
        data = self.data_preprocessor(data, True)
        batches = self.split(self.read_batch(data['inputs'], data['data_samples']))
        with optim_wrapper.optim_context(self):
            losses = self._step(*batches, optim_wrapper)
        return self.parse_losses({name: value.detach() for name, value in losses.items()})[1]

    def _step(self, real: SegBatch, virtual: list[SegBatch], optim_wrapper: OptimWrapper) -> Losses:
        """One step in the words of the module's docstring."""
        policy, memo, counts = self.policy, Memo(), self._counts
        scale = loss_scale(optim_wrapper, real.labeled)
        if not self.teaches(real):
            self._follow_student()
            losses = self.sup_losses(look(self.student, real.labeled), real)
            grads = self._gradients(losses, NetworkAt(self.student), scale)
            self._real_step(grads, optim_wrapper)
            return losses
        first = policy.plain_first and counts['steps'] == 0
        if policy.before or first:
            self._follow_student()
        forgets = policy.virtual == 'forget'
        if forgets:
            self._follower.flat.save()
        try:
            if not first and self.ahead:
                self._look_ahead(virtual, memo, scale, optim_wrapper)
            grads, losses = self._pass(NetworkAt(self.student), real, 0, memo, scale)
        finally:
            if forgets:
                self._follower.flat.restore()
        if memo.changed is not None:
            losses = {**losses, 'future/changed_labels': memo.changed}
        del memo  # a gradient's worth of memory that the optimizer may use
        self._real_step(grads, optim_wrapper)
        if policy.after or first:
            self._follow_student()
        counts['steps'] += 1
        self.steps_done += 1
        return losses

    def _look_ahead(
        self,
        batches: list[SegBatch],
        memo: Memo,
        scale: Tensor | None,
        optim_wrapper: OptimWrapper,
    ) -> None:
        """Virtual steps; the teacher follows the virtual students."""
        steps = IsolatedSteps(self._virtual)
        if self.leaky_optimizer:
            steps = LeakySteps(optim_wrapper.optimizer, self._virtual.params)
        soup = None
        try:
            for number, batch in enumerate(batches, start=1):
                last = number == len(batches)
                student = NetworkAt(self.student, steps.params, keep_buffers=not self.leaky_buffers)
                grads, _ = self._pass(student, batch, number, memo, scale, moved=steps.moved)
                grads, finite = self._ready(grads, scale, optim_wrapper)
                chunks = steps.step(grads, finite, more=self.width == 1 and not last)
                if self.width > 1:
                    soup = mean_so_far(soup, chunks, number)
                    steps.home()
                elif last or self.policy.virtual == 'each':
                    self._follow(chunks, finite)
        finally:
            steps.home()
        if soup is not None:
            self._follow(soup.items(), torch.tensor(True))

    def _pass(
        self,
        student: NetworkAt,
        batch: SegBatch,
        number: int,
        memo: Memo,
        scale: Tensor | None,
        moved: bool = False,
    ) -> tuple[Gradients, Losses]:
        """Gradient and losses of the whole loss, with labels of the teacher as it is now.

        What the passes at theta_t share moves the running statistics of the student itself, once.

        Args:
            student: where the student is.
            batch: the images.
            number: of the pass, 0 for the real one.
            memo: what passes of this step share.
            scale: of a loss scaler, or None; gradients come multiplied.
            moved: the student is not at theta_t.
        """
        common = not moved and not self.fresh
        home = NetworkAt(self.student) if common else student
        view = memo.view or self.student_view(batch, 0 if self.share else number)
        if self.share and not self.fresh:
            memo.view = view
        self._count_pass()
        if self.joint_forward:
            return self._joint_pass(student, home, batch, view, memo, scale, number)
        sup = memo.sup
        if sup is None or not common:
            if memo.reference is None or self.fresh:
                memo.reference = self.reference_features(batch)
            at = home if self.reuse else student
            losses = self.sup_losses(at(look, batch.labeled), batch, memo.reference)
            sup = self._gradients(losses, at, scale), _detached(losses)
            if self.reuse and common:
                memo.sup = sup
        targets = self._targets(batch, number, memo)
        if keeps := self._keeps_graph(common):
            seen = home(look, view.images) if memo.seen is None else memo.seen
            memo.seen = seen if number > 0 else None
        else:
            seen = student(look, view.images)
        losses = self.unsup_losses(seen, batch, view, *targets)
        grads = self._gradients(losses, student, scale, keep_graph=keeps and number > 0)
        return add_(grads, sup[0]), {**sup[1], **_detached(losses)}

    def _joint_pass(
        self,
        student: NetworkAt,
        home: NetworkAt,
        batch: SegBatch,
        view: StudentView,
        memo: Memo,
        scale: Tensor | None,
        number: int,
    ) -> tuple[Gradients, Losses]:
        """:meth:`_pass` with labelled and unlabelled images in one forward pass."""
        targets = self._targets(batch, number, memo)
        keeps = self._keeps_graph(home is not student)
        at = home if keeps else student
        seen = (keeps and memo.seen) or at(look_at_both, batch.labeled, view.images)
        if keeps:
            memo.seen = seen if number > 0 else None
        losses = self.sup_losses(seen[0], batch)
        losses.update(self.unsup_losses(seen[1], batch, view, *targets))
        grads = self._gradients(losses, at, scale, keep_graph=keeps and number > 0)
        return grads, _detached(losses)

    def _targets(self, batch: SegBatch, number: int, memo: Memo) -> tuple[Tensor, Tensor | None]:
        """Labels and weights of the teacher as it is now; notes how many labels are new ones."""
        labels, weight = self.pseudo_targets(batch)
        if memo.labels is None and not self.fresh:
            memo.labels = labels
        elif memo.labels is not None and number == 0:
            memo.changed = (labels != memo.labels).float().mean()
        return labels, weight

    def _keeps_graph(self, common: bool) -> bool:
        """Whether a look of the student at theta_t serves the first virtual and the real pass."""
        # in a series only where running statistics keep the order of their updates
        ordered = self.width == 1 and (self.reuse or self.joint_forward)
        serves = self.ahead == 1 or (self.ahead > 1 and ordered)
        return common and self.share and serves and not self.leaky_optimizer

    # ------------------------------------------------------------------ gradients and steps

    def _gradients(
        self, losses: Losses, student: NetworkAt, scale: Tensor | None, keep_graph: bool = False
    ) -> Gradients:
        """Gradients of the sum of losses, times the loss scale."""
        total = self.parse_losses(losses)[0]
        return gradients(total if scale is None else total * scale, student.leaves, keep_graph)

    def _ready(
        self, grads: Gradients, scale: Tensor | None, optim_wrapper: OptimWrapper
    ) -> tuple[Gradients, Tensor]:
        """Gradients for a virtual step as the real one would use them, and whether it may."""
        grads = mean_over_ranks_(grads)
        if scale is not None:
            torch._foreach_div_([each for each in grads if each is not None], scale)
        finite = all_finite(grads)
        options = optim_wrapper.clip_grad_kwargs
        return clipped(grads, options and optim_wrapper.clip_func, options), finite

    def _real_step(self, grads: Gradients, optim_wrapper: OptimWrapper) -> None:
        """A step of the optimizer wrapper, which unscales, clips and logs."""
        for param, grad in zip(self._virtual.params, mean_over_ranks_(grads), strict=True):
            param.grad = grad
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        self._follower.statistics(self.teacher_buffers, self._keep())

    def _look_along(self, optimizer: torch.optim.Optimizer) -> None:
        """Finds the trained parameters in the optimizer, and reads the counters once."""
        if self._virtual is None or self._virtual.optimizer is not optimizer:
            trained = [each for each in self.student.parameters() if each.requires_grad]
            self._virtual = VirtualOptimizer(optimizer, trained)
        if self._counts is None:
            self._counts = dict(steps=int(self.steps_done), passes=int(self.passes_done))
        self._follower.look_again()

    def _count_pass(self) -> None:
        """One more forward pass."""
        self._counts['passes'] += 1
        self.passes_done += 1

    # ------------------------------------------------------------------ the teacher

    def _keep(self, virtual: bool = False) -> float:
        """The present keep factor."""
        if virtual and self.virtual_keep is not None:
            return self.virtual_keep
        return min(1 - 1 / (self._counts[self.policy.counter] + 1), self.keep)

    def _follow_student(self) -> None:
        """The teacher averages the student itself, if that is finite."""
        finite = self._follower.follow_student(self._keep())
        self.skipped_steps += (~finite).to(self.skipped_steps)
        self.teacher_steps += 1

    def _follow(self, chunks: Iterable[Chunk], finite: Tensor) -> None:
        """The teacher averages virtual students."""
        self._follower.follow(chunks, self._keep(virtual=True), finite)
        self.teacher_steps += 1

    # ------------------------------------------------------------------ data and state

    def split(self, batch: SegBatch) -> tuple[SegBatch, list[SegBatch]]:
        """The real batch and those of the virtual steps.

        Raises:
            UserError: fresh data, and a batch that cannot be split.
        """
        if not self.fresh or not self.ahead:
            return batch, [batch] * self.ahead
        parts = self.ahead + 1
        for name, images in (('labelled', batch.labeled), ('unlabelled', batch.unlabeled)):
            if images is not None and len(images) % parts:
                raise UserError(
                    f"virtual_data='fresh' needs {parts} batches in one, got {len(images)} {name} "
                    'images: multiply batch_size of loader and sampler'
                )

        def part(images: Tensor | None) -> list:
            return [None] * parts if images is None else list(images.chunk(parts))

        names = ('labeled', 'labels', 'unlabeled', 'hidden')
        rows = zip(*(part(getattr(batch, name)) for name in names), strict=True)
        real, *virtual = (SegBatch(*row) for row in rows)
        return real, virtual

    def forward(
        self, inputs: Any, data_samples: Any = None, mode: str = 'tensor', **more: Any
    ) -> Any:
        """As in the frame; refuses training steps that would leave out the look ahead."""
        if mode == 'loss' and get_world_size() > 1:
            raise UserError(
                'FST looks ahead in train_step, which this loop does not call on several ranks: '
                'set train_cfg.type to mmdistill.IterTrainLoop or mmdistill.EpochTrainLoop'
            )
        return super().forward(inputs, data_samples, mode, **more)

    def _load_from_state_dict(self, *args: Any) -> None:
        """Counters are read anew."""
        self._counts = None
        super()._load_from_state_dict(*args)


def mean_so_far(
    mean: dict[tuple[int, ...], list[Tensor]] | None, chunks: Iterable[Chunk], count: int
) -> dict[tuple[int, ...], list[Tensor]]:
    """Running mean of parameters, ``mean + (new - mean) / count``, chunk by chunk.

    Args:
        mean: of ``count - 1`` before, changed; None at the first.
        chunks: the new parameters, in the same chunks every time.
        count: how many there are with these.
    """
    if mean is None:
        return {tuple(indices): [each.clone() for each in new] for indices, new in chunks}
    for indices, new in chunks:
        torch._foreach_lerp_(mean[tuple(indices)], list(new), 1 / count)
    return mean


def _detached(losses: Losses) -> Losses:
    """Losses without their graphs."""
    return {name: value.detach() for name, value in losses.items()}
