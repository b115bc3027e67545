"""Matching training trajectories: the loss of MTT, FTD, TESLA and DATM, and its gradients.

A student starts where an expert was after some epochs, ``theta_0``, and takes N steps of gradient
descent on synthetic images X with labels ``softmax(L)`` and step size alpha; it should land where
the expert was M epochs later, ``theta*`` (MTT, arXiv:2203.11932, Eq. 2; DATM, arXiv:2310.05773)::

    theta_{i+1} = theta_i - alpha g_i,   g_i = d/dtheta CE(f(theta_i, A_i(X[I_i])), softmax(L[I_i]))
    loss        = |theta_N - theta*|^2 / |theta_0 - theta*|^2

``A_i`` is an augmentation whose random numbers are recorded, ``I_i`` the rows of a batch. The
gradients by X, L and alpha come from one of three engines:

``adjoint``
    Exact, in memory that does not grow with N; one vector of parameters per step lies in a
    :class:`Trail`, on the CPU in a temporary file. With
    ``lambda_N = dloss/dtheta_N`` and backwards from the last step::

        dloss/dalpha    -= <lambda_{i+1}, g_i>
        dloss/d(X, L)   -= alpha d/d(X, L) <lambda_{i+1}, g_i>
        lambda_i         = lambda_{i+1} - alpha H_i lambda_{i+1}

    One pullback of ``(theta, X, L) -> g`` with cotangent lambda gives the product with the Hessian
    ``H_i`` and both data gradients. This formulation is our completion.
``unroll``
    Exact, by backpropagation through all N steps, as MTT and DATM are published.
``tesla``
    TESLA (arXiv:2211.10586): every ``theta_i`` counts as constant, so lambda never changes. That is
    the gradient of the loss with ``H_i`` left out; it is exact for N = 1 only, although its paper
    calls it exact.

Deviations from DATM's code: a batch whose loss is above the threshold is skipped before the
backward sweep, not after it; the random numbers are functions of (seed, iteration).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_reduce, get_dist_info
from torch import Tensor

from mmdistill.core.errors import UserError
from mmkd.experts.flat_network import FlatNetwork
from mmkd.matching.trail import Trail

ENGINES = ('adjoint', 'unroll', 'tesla')
MIXED = (
    'has batch norm, so that its gradient is no sum over samples: leave out micro_batch and train '
    'on one rank'
)


def soft_cross_entropy(logits: Tensor, labels: Tensor, count: int | None = None) -> Tensor:
    """``-1/count sum softmax(labels) log_softmax(logits)``.

    Args:
        logits: of a network, ``(B, C)``.
        labels: logits of the labels, ``(B, C)``; a constant added to a row changes nothing.
        count: samples of the whole batch, of which these are a part; None: B.

    Returns:
        A scalar.
    """
    total = -(labels.softmax(-1) * logits.log_softmax(-1)).sum()
    return total / (len(logits) if count is None else count)


def matching_loss(landed: Tensor, start: Tensor, target: Tensor) -> Tensor:
    """``|landed - target|^2 / |start - target|^2``; 1 for a student that did not move."""
    return (landed - target).square().sum() / (start - target).square().sum()


def upper_bound(iteration: int, upper: int, upper_max: int | None, expansion: int) -> int:
    """First epoch that segments do not start at (DATM, section 4.2: sequential generation).

    Args:
        iteration: of the distillation, from 0.
        upper: the bound at first.
        upper_max: the bound in the end; None: it stays.
        expansion: iterations until then.

    Returns:
        ``min(upper + floor((upper_max - upper) iteration / expansion), upper_max)``.
    """
    if upper_max is None:
        return upper
    return min(upper + (upper_max - upper) * iteration // expansion, upper_max)


@dataclass(frozen=True)
class InnerStep:
    """What the student sees in one step.

    Attributes:
        rows: of the synthetic images, ``(b,)``.
        record: random numbers of the augmentation, None without.
    """

    rows: Tensor
    record: Any = None


def draw_plan(
    total: int,
    batch: int | None,
    steps: int,
    generator: torch.Generator,
    augment: Any = None,
    size: tuple[int, int] | None = None,
    device: torch.device | str = 'cpu',
) -> list[InnerStep]:
    """Batches of all steps: permutations of all rows, cut in pieces, the last piece first.

    Args:
        total: synthetic images S.
        batch: images per step; None: all.
        steps: N.
        generator: of the CPU, so that a plan is the same on every device.
        augment: a :class:`mmkd.augment.dsa.DSA`, or None.
        size: height and width, for the augmentation.
        device: where rows and numbers go.
    """
    plan: list[InnerStep] = []
    pool: list[Tensor] = []
    for _ in range(steps):
        if not pool:
            pool = list(torch.randperm(total, generator=generator).split(batch or total))
        rows = pool.pop()
        record = None
        if augment is not None:
            record = augment.draw(len(rows), size, generator).to(device)
        plan.append(InnerStep(rows.to(device), record))
    return plan


@dataclass
class Matched:
    """Loss of a segment and its gradients.

    Attributes:
        loss: of matching, a scalar.
        images: gradient ``(S, C, H, W)``, or None: the segment is skipped.
        labels: gradient ``(S, classes)``, or None: skipped, or labels are not learned.
        lr: gradient, a scalar, or None: skipped.
        landed: ``(P,)``, where the student ended.
    """

    loss: Tensor
    landed: Tensor
    images: Tensor | None = None
    labels: Tensor | None = None
    lr: Tensor | None = None


def _kept(loss: Tensor, threshold: float | None) -> bool:
    """Whether a loss is one to learn from; waits for the device, once per segment."""
    value = loss.item()
    return math.isfinite(value) and (threshold is None or value <= threshold)


class Matcher:
    """Loss and gradients of segments.

    Args:
        network: of experts and student.
        engine: see the module.
        augment: a :class:`mmkd.augment.dsa.DSA`, or None.
        micro_batch: samples that are looked at together; the result is the same, memory is that of
            this many. None: a whole batch. ``adjoint`` and ``tesla`` only.
        learn_labels: gradients by labels too.
        compiled: compiles gradients and pullbacks with ``torch.compile``; shapes should not change,
            so ``batch`` should divide the number of images.

    Raises:
        UserError: an unknown engine, a network with dropout, micro-batches or several ranks with
            batch norm, or with ``unroll``.
    """

    def __init__(
        self,
        network: FlatNetwork,
        engine: str = 'adjoint',
        augment: Any = None,
        micro_batch: int | None = None,
        learn_labels: bool = True,
        compiled: bool = False,
    ) -> None:
        if engine not in ENGINES:
            raise UserError(f'engine {engine!r} is none of {", ".join(ENGINES)}')
        if micro_batch is not None and micro_batch < 1:
            raise UserError(f'micro_batch must be at least 1, got {micro_batch}')
        if network.draws_numbers:
            raise UserError(
                f'{type(network.network).__name__} has dropout: a step that is computed a second '
                'time would be another one; set its rate to 0'
            )
        parts = micro_batch is not None or get_dist_info()[1] > 1
        if parts and network.mixes_samples:
            raise UserError(f'{type(network.network).__name__} {MIXED}')
        if engine == 'unroll' and (parts or compiled):
            raise UserError(
                "engine 'unroll' keeps all steps in one graph: micro_batch, several ranks and "
                "compiled are for 'adjoint' and 'tesla'"
            )
        self.network, self.engine, self.augment = network, engine, augment
        self.micro_batch, self.learn_labels = micro_batch, learn_labels
        self._gradient: Callable = self._plain_gradient
        self._pull: Callable = self._plain_pullback
        if compiled:
            self._gradient = torch.compile(self._functional_gradient, fullgraph=True)
            self._pull = torch.compile(self._functional_pullback, fullgraph=True)

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        lr: Tensor,
        start: Tensor,
        target: Tensor,
        plan: Sequence[InnerStep],
        threshold: float | None = None,
    ) -> Matched:
        """Loss and gradients of a segment; nothing that is given is changed.

        Args:
            images: ``(S, C, H, W)``.
            labels: logits ``(S, classes)``.
            lr: alpha, a scalar tensor.
            start: ``theta_0``, ``(P,)``.
            target: ``theta*``, ``(P,)``.
            plan: batches of all steps.
            threshold: a segment with a larger loss is skipped, and one whose loss is not finite.

        Returns:
            The loss, and gradients unless the segment is skipped.
        """
        images, labels, lr, start, target = (
            each.detach() for each in (images, labels, lr, start, target)
        )
        if self.engine == 'unroll':
            return self._unrolled(images, labels, lr, start, target, plan, threshold)
        return self._swept(images, labels, lr, start, target, plan, threshold)

    def _seen(self, images: Tensor, step: InnerStep, part: slice | None = None) -> Tensor:
        """Images of a step, or of a part of it, as the student sees them."""
        record = step.record
        if self.augment is None or record is None:
            return images
        return self.augment(images, record if part is None else record.rows(part))

    def loss(self, theta: Tensor, seen: Tensor, labels: Tensor, count: int) -> Tensor:
        """Loss of a part of a batch at given parameters, a scalar."""
        return soft_cross_entropy(self.network.logits(theta, seen), labels, count)

    def _plain_gradient(self, theta: Tensor, seen: Tensor, labels: Tensor, count: int) -> Tensor:
        """``d loss/d theta``."""
        leaf = theta.detach().requires_grad_()
        return torch.autograd.grad(self.loss(leaf, seen, labels, count), leaf)[0]

    def _plain_pullback(
        self,
        theta: Tensor,
        seen: Tensor,
        labels: Tensor,
        count: int,
        cotangent: Tensor,
        curved: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Gradient, and the pullback of a cotangent to parameters (``curved``), images, labels."""
        leaves = [each.detach().requires_grad_() for each in (theta, seen, labels)]
        gradient = torch.autograd.grad(self.loss(*leaves, count), leaves[0], create_graph=True)[0]
        wanted = [curved, True, self.learn_labels]
        chosen = [leaf for leaf, want in zip(leaves, wanted, strict=True) if want]
        found = iter(torch.autograd.grad(gradient, chosen, cotangent, materialize_grads=True))
        pulled = [next(found) if want else None for want in wanted]
        return gradient.detach(), *pulled

    def _functional_gradient(
        self, theta: Tensor, seen: Tensor, labels: Tensor, count: int
    ) -> Tensor:
        """:meth:`_plain_gradient` in the form that compiles."""
        return torch.func.grad(self.loss)(theta, seen, labels, count)

    def _functional_pullback(
        self,
        theta: Tensor,
        seen: Tensor,
        labels: Tensor,
        count: int,
        cotangent: Tensor,
        curved: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """:meth:`_plain_pullback` in the form that compiles."""

        def gradient(*leaves: Tensor) -> Tensor:
            return torch.func.grad(self.loss)(*leaves, count)

        found, pull = torch.func.vjp(gradient, theta, seen, labels)
        moved, pixels, classes = pull(cotangent)
        # what is not returned is not computed in the compiled form
        return found, moved if curved else None, pixels, classes

    def _parts(self, count: int) -> list[slice]:
        """Micro-batches of this rank's share of a batch."""
        rank, world = get_dist_info()
        first, last = count * rank // world, count * (rank + 1) // world
        size = self.micro_batch or count
        return [slice(at, min(at + size, last)) for at in range(first, last, size)]

    def _swept(
        self,
        images: Tensor,
        labels: Tensor,
        lr: Tensor,
        start: Tensor,
        target: Tensor,
        plan: Sequence[InnerStep],
        threshold: float | None,
    ) -> Matched:
        """Forward without a graph, backward with one step's graph at a time."""
        passed = Trail(len(plan), start)
        theta = start
        for number, step in enumerate(plan):
            passed[number] = theta
            gradient = torch.zeros_like(theta)
            for part in self._parts(len(step.rows)):
                rows = step.rows[part]
                with torch.no_grad():
                    seen = self._seen(images[rows], step, part)
                gradient += self._gradient(theta, seen, labels[rows], len(step.rows))
            all_reduce(gradient)
            theta = theta - lr * gradient
        loss = matching_loss(theta, start, target)
        if not _kept(loss, threshold):
            return Matched(loss, theta)
        adjoint = 2 * (theta - target) / (start - target).square().sum()
        by_images, by_lr = torch.zeros_like(images), torch.zeros_like(lr)
        by_labels = torch.zeros_like(labels) if self.learn_labels else None
        for number in reversed(range(len(plan))):
            step = plan[number]
            # what lambda is before the first step plays no role
            curved = self.engine == 'adjoint' and number > 0
            turned = torch.zeros_like(theta)
            for part in self._parts(len(step.rows)):
                rows = step.rows[part]
                given = images[rows].requires_grad_()
                seen = self._seen(given, step, part)
                gradient, moved, pixels, classes = self._pull(
                    passed[number], seen.detach(), labels[rows], len(step.rows), adjoint, curved
                )
                by_lr -= torch.dot(adjoint, gradient)
                if seen is not given:
                    pixels = torch.autograd.grad(seen, given, pixels)[0]
                by_images.index_add_(0, rows, -lr * pixels)
                if by_labels is not None:
                    by_labels.index_add_(0, rows, -lr * classes)
                if curved:
                    turned += moved
            if curved:
                all_reduce(turned)
                adjoint = adjoint - lr * turned
        for each in (by_images, by_labels, by_lr):
            if each is not None:
                all_reduce(each)
        return Matched(loss, theta, by_images, by_labels, by_lr)

    def _unrolled(
        self,
        images: Tensor,
        labels: Tensor,
        lr: Tensor,
        start: Tensor,
        target: Tensor,
        plan: Sequence[InnerStep],
        threshold: float | None,
    ) -> Matched:
        """Through the graph of all steps."""
        leaves = [each.requires_grad_() for each in (images, lr, labels)]
        theta = start.requires_grad_()
        for step in plan:
            seen = self._seen(images[step.rows], step)
            loss = self.loss(theta, seen, labels[step.rows], len(step.rows))
            theta = theta - lr * torch.autograd.grad(loss, theta, create_graph=True)[0]
        loss = matching_loss(theta, start.detach(), target)
        if not _kept(loss.detach(), threshold):
            return Matched(loss.detach(), theta.detach())
        wanted = leaves if self.learn_labels else leaves[:2]
        by_images, by_lr, *rest = torch.autograd.grad(loss, wanted, materialize_grads=True)
        by_labels = rest[0] if rest else None
        return Matched(loss.detach(), theta.detach(), by_images, by_labels, by_lr)
