"""Laws of trajectory matching: three engines, one of them an approximation, against references."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmkd.experts.flat_network import FlatNetwork
from mmkd.matching.trajectory_matching import (
    InnerStep,
    Matcher,
    draw_plan,
    matching_loss,
    soft_cross_entropy,
    upper_bound,
)
from mmkd.models.timm_classifier import Classified

CLASSES = 5
EXACT = 1e-12


class Small(nn.Module):
    """A network of two convolutions with one of three norms."""

    def __init__(self, norm: str = 'instance') -> None:
        super().__init__()
        norms = dict(instance=lambda: nn.GroupNorm(4, 4), batch=lambda: nn.BatchNorm2d(4))
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            norms[norm](),
            nn.Softplus(),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, CLASSES),
        )

    def forward(self, pixel_values: Tensor) -> Classified:
        """Logits."""
        return Classified(self.body(pixel_values))


class Wobble:
    """An augmentation of recorded numbers: a shift along a curve, by sample."""

    def draw(self, count: int, size: tuple[int, int], generator: torch.Generator) -> Numbers:
        """One number per sample."""
        return Numbers(torch.rand(count, generator=generator, dtype=torch.float64))

    def __call__(self, images: Tensor, record: Numbers) -> Tensor:
        """``images + number images^2``."""
        return images + record.values.view(-1, 1, 1, 1) * images.square()


class Numbers:
    """What :class:`Wobble` records."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def to(self, device: object) -> Numbers:
        """As it is."""
        return self

    def rows(self, part: slice) -> Numbers:
        """Numbers of a part of the batch."""
        return Numbers(self.values[part])


class Case:
    """A segment in float64.

    Args:
        steps: N.
        batch: images per step.
        total: synthetic images.
        augment: or None.
        lr: alpha.
        norm: of the network.
        seed: of everything.
    """

    def __init__(
        self,
        steps: int = 5,
        batch: int = 4,
        total: int = 7,
        augment: Wobble | None = None,
        lr: float = 0.05,
        norm: str = 'instance',
        seed: int = 0,
    ) -> None:
        draw = torch.Generator().manual_seed(seed)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=draw, dtype=torch.float64)

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = FlatNetwork(Small(norm).double())
        self.images, self.labels = normal(total, 2, 4, 4), normal(total, CLASSES)
        self.lr = torch.tensor(lr, dtype=torch.float64)
        self.start = self.network.theta()
        self.target = self.start + 0.05 * normal(len(self.start))
        self.augment = augment
        self.plan = draw_plan(total, batch, steps, draw, augment, (4, 4))

    def match(self, engine: str, threshold: float | None = None, **settings: object) -> object:
        """Loss and gradients by an engine."""
        matcher = Matcher(self.network, engine, self.augment, **settings)
        given = (self.images, self.labels, self.lr, self.start, self.target)
        return matcher(*given, self.plan, threshold)

    def reference(self, constant: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Loss and gradients by backpropagation, written out.

        Args:
            constant: weights that gradients are taken at count as constants.
        """
        images, labels, lr = (
            each.clone().requires_grad_() for each in (self.images, self.labels, self.lr)
        )
        theta = self.start.clone().requires_grad_()
        for step in self.plan:
            at = theta.detach().requires_grad_() if constant else theta
            seen = images[step.rows]
            if step.record is not None:
                seen = seen + step.record.values.view(-1, 1, 1, 1) * seen**2
            named = self.network.named(at)
            logits = torch.func.functional_call(self.network.network, named, (seen,)).logits
            loss = F.cross_entropy(logits, labels[step.rows].softmax(-1))
            theta = theta - lr * torch.autograd.grad(loss, at, create_graph=True)[0]
        loss = ((theta - self.target) ** 2).sum() / ((self.start - self.target) ** 2).sum()
        return loss.detach(), *torch.autograd.grad(loss, (images, labels, lr))


def gap(found: Tensor, wanted: Tensor) -> float:
    """Relative difference."""
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize('augment', [None, Wobble()])
@pytest.mark.parametrize('steps', [1, 5, 20, 40])
@pytest.mark.parametrize('engine', ['adjoint', 'unroll'])
def test_exact_engines_equal_backpropagation(
    engine: str, steps: int, augment: Wobble | None
) -> None:
    case = Case(steps, augment=augment)
    loss, *wanted = case.reference()
    found = case.match(engine)
    assert gap(found.loss, loss) < EXACT
    for each, other in zip((found.images, found.labels, found.lr), wanted, strict=True):
        assert gap(each, other) < EXACT


@pytest.mark.parametrize('steps', [1, 5, 20])
def test_tesla_takes_weights_as_constants(steps: int) -> None:
    case = Case(steps, augment=Wobble())
    _, *wanted = case.reference(constant=True)
    found = case.match('tesla')
    for each, other in zip((found.images, found.labels, found.lr), wanted, strict=True):
        assert gap(each, other) < EXACT


def test_tesla_is_exact_for_one_step_alone() -> None:
    one, many = Case(1), Case(20, lr=0.2)
    assert gap(one.match('tesla').images, one.match('unroll').images) < EXACT
    assert gap(many.match('tesla').images, many.match('unroll').images) > 0.1


def test_central_differences() -> None:
    case, step = Case(6, augment=Wobble()), 1e-5
    found = case.match('adjoint')
    draw = torch.Generator().manual_seed(1)
    for name in ('images', 'labels', 'lr'):
        own = getattr(case, name)
        direction = torch.randn(own.shape, generator=draw, dtype=torch.float64)
        losses = []
        for sign in (1, -1):
            setattr(case, name, own + sign * step * direction)
            losses.append(case.match('adjoint').loss)
        setattr(case, name, own)
        slope = (losses[0] - losses[1]) / (2 * step)
        torch.testing.assert_close(
            (getattr(found, name) * direction).sum(), slope, atol=1e-8, rtol=1e-5
        )


@pytest.mark.parametrize('engine', ['adjoint', 'tesla'])
@pytest.mark.parametrize('size', [1, 3, 4])
def test_micro_batches_change_nothing(engine: str, size: int) -> None:
    case = Case(8, augment=Wobble())
    whole, parts = case.match(engine), case.match(engine, micro_batch=size)
    for name in ('loss', 'images', 'labels', 'lr'):
        assert gap(getattr(parts, name), getattr(whole, name)) < EXACT


def test_batch_norm_has_no_micro_batches_and_exact_gradients() -> None:
    case = Case(5, norm='batch')
    _, *wanted = case.reference()
    found = case.match('adjoint')
    assert gap(found.images, wanted[0]) < EXACT
    with pytest.raises(UserError, match='batch norm.*micro_batch'):
        case.match('adjoint', micro_batch=2)


def test_student_that_stands_still_has_loss_one() -> None:
    assert Case(lr=0.0).match('adjoint').loss == 1


def test_student_that_arrives_has_loss_zero() -> None:
    case = Case(7)
    case.target = case.match('adjoint').landed
    found = case.match('adjoint')
    assert found.loss < 1e-28
    assert found.images.abs().max() < 1e-12


def test_loss_has_no_unit() -> None:
    draw = torch.Generator().manual_seed(0)
    landed, start, target = torch.randn(3, 50, generator=draw, dtype=torch.float64)
    loss = matching_loss(landed, start, target)
    assert loss > 0
    torch.testing.assert_close(matching_loss(7 * landed, 7 * start, 7 * target), loss)
    torch.testing.assert_close(matching_loss(landed + 3, start + 3, target + 3), loss)


def test_label_gradients_sum_to_zero() -> None:
    found = Case(10).match('adjoint')
    assert found.labels.abs().max() > 1e-6
    assert found.labels.sum(-1).abs().max() < 1e-15


def test_images_that_are_not_seen_get_no_gradient() -> None:
    case = Case(steps=2, batch=2)
    seen = torch.cat([step.rows for step in case.plan]).unique()
    found = case.match('adjoint')
    unseen = [n for n in range(len(case.images)) if n not in seen.tolist()]
    assert len(seen) == 3  # the piece that is left comes first: 1 of 7, then 2
    assert not found.images[unseen].any()
    assert not found.labels[unseen].any()
    assert found.images[seen].flatten(1).any(-1).all()


@pytest.mark.parametrize('engine', ['adjoint', 'unroll', 'tesla'])
def test_threshold_skips(engine: str) -> None:
    case = Case(5)
    loss = float(case.match(engine).loss)
    kept, skipped = case.match(engine, loss), case.match(engine, 0.99 * loss)
    assert kept.images is not None
    assert skipped.images is skipped.labels is skipped.lr is None
    assert skipped.loss == kept.loss
    case.labels[0] = float('nan')
    assert case.match(engine).images is None


@pytest.mark.parametrize('engine', ['adjoint', 'unroll', 'tesla'])
def test_nothing_that_is_given_changes(engine: str) -> None:
    case = Case(5, augment=Wobble())
    given = [case.images, case.labels, case.lr, case.start, case.target, case.network.theta()]
    before = [each.clone() for each in given]
    case.match(engine)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert torch.equal(case.network.theta(), before[-1])
    assert not any(each.requires_grad for each in given)
    assert all(each.grad is None for each in case.network.network.parameters())


def test_labels_that_are_not_learned() -> None:
    case = Case(5)
    for engine in ('adjoint', 'unroll', 'tesla'):
        free, frozen = case.match(engine), case.match(engine, learn_labels=False)
        assert frozen.labels is None
        assert gap(frozen.images, free.images) < EXACT
        assert gap(frozen.lr, free.lr) < EXACT


def test_certain_labels_are_those_of_classes() -> None:
    from mmkd.matching.initial import hard_logits

    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(6, CLASSES, generator=draw)
    classes = torch.tensor([0, 3, 2, 1, 4, 4])
    certain = hard_logits(classes, CLASSES)
    torch.testing.assert_close(
        soft_cross_entropy(logits, certain), F.cross_entropy(logits, classes), rtol=0, atol=1e-7
    )
    soft = torch.randn(6, CLASSES, generator=draw)
    torch.testing.assert_close(
        soft_cross_entropy(logits, soft + 5 * torch.arange(6.0).unsqueeze(-1)),
        soft_cross_entropy(logits, soft),
    )


def kept_bytes(steps: int, engine: str) -> int:
    """Most bytes of saved tensors that one backward pass needs at once."""
    case = Case(steps, batch=7, total=7)
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        seen[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    sizes: list[int] = []
    matcher = Matcher(case.network, engine)
    pull = matcher._pull

    def counted(*args: object) -> object:
        seen.clear()
        found = pull(*args)
        sizes.append(sum(seen.values()))
        return found

    matcher._pull = counted
    with torch.autograd.graph.saved_tensors_hooks(note, lambda each: each):
        matcher(case.images, case.labels, case.lr, case.start, case.target, case.plan)
    return max(sizes, default=sum(seen.values()))


def test_memory_of_the_sweep_does_not_grow_with_steps() -> None:
    for engine in ('adjoint', 'tesla'):
        few, many = kept_bytes(4, engine), kept_bytes(40, engine)
        assert few > 0
        assert abs(many - few) <= 0.1 * few
    assert kept_bytes(40, 'unroll') > 6 * kept_bytes(4, 'unroll')


def test_upper_bound_rises_by_whole_epochs() -> None:
    places = (0, 99, 100, 199, 999, 1000, 5000)
    assert [upper_bound(at, 10, 20, 1000) for at in places] == [10, 10, 11, 11, 19, 20, 20]
    assert upper_bound(5000, 10, None, 1) == 10


def test_plan_goes_through_all_images_before_any_comes_again() -> None:
    plan = draw_plan(7, 3, 6, torch.Generator().manual_seed(0))
    assert [len(step.rows) for step in plan] == [1, 3, 3, 1, 3, 3]
    for half in (plan[:3], plan[3:]):
        assert torch.cat([step.rows for step in half]).sort().values.tolist() == list(range(7))
    whole = draw_plan(7, None, 2, torch.Generator().manual_seed(0))
    assert [len(step.rows) for step in whole] == [7, 7]


def test_compiled_gradients_equal_plain_ones() -> None:
    case = Case(3, batch=7)
    plain = case.match('adjoint')
    matcher = Matcher(case.network, 'adjoint')
    # the whole trace, without the minute that a compiler of kernels takes
    for name in ('gradient', 'pullback'):
        traced = torch.compile(
            getattr(matcher, f'_functional_{name}'), fullgraph=True, backend='aot_eager'
        )
        setattr(matcher, {'gradient': '_gradient', 'pullback': '_pull'}[name], traced)
    given = (case.images, case.labels, case.lr, case.start, case.target)
    found = matcher(*given, case.plan)
    for name in ('loss', 'images', 'labels', 'lr'):
        assert gap(getattr(found, name), getattr(plain, name)) < EXACT


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(engine='unrol'), "'unrol' is none of adjoint, unroll, tesla"),
        (dict(engine='adjoint', micro_batch=0), 'micro_batch must be at least 1, got 0'),
        (dict(engine='unroll', micro_batch=2), "'unroll' keeps all steps"),
        (dict(engine='unroll', compiled=True), "'unroll' keeps all steps"),
    ],
)
def test_errors(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Matcher(Case().network, **settings)


def test_step_without_record_is_seen_as_it_is() -> None:
    case = Case(3)
    plain = case.match('adjoint')
    case.augment = Wobble()
    case.plan = [InnerStep(step.rows) for step in case.plan]
    assert torch.equal(case.match('adjoint').images, plain.images)


def test_networks_with_dropout_are_refused() -> None:
    network = Small()
    network.body.append(nn.Dropout(0.5))
    with pytest.raises(UserError, match='Small has dropout.*set its rate to 0'):
        Matcher(FlatNetwork(network))
    network.body[-1].p = 0.0
    assert Matcher(FlatNetwork(network))
