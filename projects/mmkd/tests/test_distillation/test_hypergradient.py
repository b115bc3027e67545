"""How weights of samples move a held-out loss: by hand, by differences of real steps, four ways."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.core.gradients import gradients
from mmdistill.core.rng import rng_state
from mmdistill.testing import state_differences
from mmkd.distillation.hypergradient import (
    SOLVERS,
    Step,
    generators,
    head_inputs,
    influence,
    last_linear,
    logits_along,
    loss_directions,
)
from mmkd.models.cifar.build import cifar_net
from mmkd.models.hugging_face import hf_classifier
from mmkd.models.tabular import TabularMLP
from mmkd.models.timm_classifier import Classified

CPU = torch.device('cpu')
NESTEROV = (torch.optim.SGD, dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-3))
ADAMW = (torch.optim.AdamW, dict(lr=0.01, weight_decay=0.1, eps=1e-4))
OPTIMIZERS = dict(nesterov=NESTEROV, adamw=ADAMW)


class Tied(nn.Module):
    """Two layers with one matrix, and dropout."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(6, 5)

    def forward(self, numeric):
        """Logits."""
        hidden = self.drop(self.first(numeric).tanh())
        return Classified(self.head(self.second(hidden).tanh()))


class Twice(nn.Module):
    """One layer under two names, as networks with a shared head have it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = self.first
        self.head = nn.Linear(6, 5)

    def forward(self, numeric):
        """Logits."""
        return Classified(self.head(self.second(self.first(numeric).tanh()).tanh()))


def mlp(**options):
    """For rows of 6 numbers, 5 classes."""
    return TabularMLP(**dict(dict(in_features=6, hidden=(8,), num_classes=5), **options))


def vit():
    """Attention by torch's own function, with dropout everywhere."""
    config = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, patch_size=4)
    config |= dict(image_size=8, intermediate_size=32, initializer_range=0.3)
    config |= dict(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    network = hf_classifier('image', 'vit', config, num_labels=5)
    assert network.config._attn_implementation == 'sdpa'
    return network


STUDENTS = dict(
    mlp=(mlp, 'numeric', (6,)),
    mlp_dropout=(lambda: mlp(hidden=(8, 8), act='Tanh', dropout=0.3), 'numeric', (6,)),
    tied=(Tied, 'numeric', (6,)),
    twice=(Twice, 'numeric', (6,)),
    resnet8=(lambda: cifar_net('resnet8', 5), 'pixel_values', (3, 12, 12)),
    vit=(vit, 'pixel_values', (3, 8, 8)),
)


class Case:
    """A student with the optimizer in the middle of a training, and its next batch."""

    def __init__(self, name, optimizer, dtype=torch.float64, steps=2, batch=6, clip=1.0, only=''):
        make, self.key, shape = STUDENTS[name]
        torch.manual_seed(0)
        self.student = make().to(dtype).train()
        for part, each in self.student.named_parameters():
            each.requires_grad_(part.startswith(only))
        self.params = [each for each in self.student.parameters() if each.requires_grad]
        self.made_by, self.clip = optimizer, clip
        self.optimizer = optimizer[0](self.params, **optimizer[1])
        self.batch = {self.key: torch.randn(batch, *shape, dtype=dtype)}
        self.held_out = {self.key: torch.randn(batch + 1, *shape, dtype=dtype)}
        self.labels, self.held_labels = (torch.randint(5, (each,)) for each in (batch, batch + 1))
        self.teacher = 2 * torch.randn(batch, 5, dtype=dtype)
        self.weights = torch.rand(2, batch, dtype=dtype)
        for _ in range(steps):
            self.loss(self.student, self.weights).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def loss(self, student, weights):
        """Of a training batch, by torch's own functions; with one more loss."""
        z, t = student(**self.batch).logits, 3.0
        soft = F.kl_div((z / t).log_softmax(1), (self.teacher / t).softmax(1), reduction='none')
        hard = F.cross_entropy(z, self.labels, reduction='none')
        more = 0.3 * z.square().mean()
        return (weights[0] * t**2 * soft.sum(1) + weights[1] * hard).mean() + more

    def step(self):
        """What the solvers are given."""
        state = generators(CPU)
        with head_inputs(self.student) as seen:
            loss = self.loss(self.student, self.weights)
        grads = [
            None if each is None else self.clip * each for each in gradients(loss, self.params)
        ]
        more = (self.batch, self.teacher, self.labels, 3.0, state, seen[-1], self.clip)
        return Step(self.student, self.optimizer, self.params, grads, *more)

    def solved(self, solver, step=None, **options):
        """Pulls ``(2, B)`` and the held-out loss."""
        step = step or self.step()
        pulls, loss = influence(step, self.held_out, self.held_labels, solver, **options)
        assert [each.shape for each in pulls] == [(len(self.labels),)] * 2
        assert not any(each.requires_grad for each in (*pulls, loss))
        return torch.stack(pulls), loss

    def after_a_real_step(self, weights, state):
        """The held-out loss when the step is taken with these weights; all is a copy."""
        student = copy.deepcopy(self.student)
        params = [each for each in student.parameters() if each.requires_grad]
        optimizer = self.made_by[0](params, **self.made_by[1])
        optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        torch.set_rng_state(state['cpu'])
        self.loss(student, weights).backward()
        for each in params:
            each.grad = None if each.grad is None else self.clip * each.grad
        optimizer.step()
        torch.set_rng_state(state['cpu'])
        with torch.no_grad():
            return F.cross_entropy(student(**self.held_out).logits, self.held_labels)


def apart(found, expected):
    """Cosine, and the relative error."""
    cosine = F.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    return float(cosine), float((found - expected).norm() / expected.norm())


# ------------------------------------------------------------------ a case by hand


class Plane(nn.Module):
    """Linear without bias, all zeros."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 2, bias=False).double()
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        """Logits."""
        return Classified(self.head(x))


@pytest.mark.parametrize('solver', SOLVERS)
def test_values_of_a_case_by_hand(solver):
    student = Plane()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    x, labels = torch.eye(2).double(), torch.tensor([0, 1])
    teacher, ratio = torch.tensor([[2.0, 0], [1, 0]]).double(), torch.tensor([0.5, 0.25]).double()
    z = student(x).logits
    log_p, p = (z / 2).log_softmax(1), (teacher / 2).softmax(1)
    kd = 4 * (p * (p.log() - log_p)).sum(1)
    assert kd.tolist() == pytest.approx([0.443777, 0.121199], abs=1e-6)
    loss = (ratio * kd + (1 - ratio) * F.cross_entropy(z, labels, reduction='none')).mean()
    assert loss.item() == pytest.approx(0.559311, abs=1e-6)
    params = list(student.parameters())
    grads = gradients(loss, params)
    more = (dict(x=x), teacher, labels, 2.0, generators(CPU), x)
    step = Step(student, optimizer, params, grads, *more)
    held_out = dict(x=torch.ones(1, 2).double())
    pulls, found = influence(step, held_out, torch.tensor([0]), solver)
    assert found.item() == pytest.approx(0.684818, abs=1e-6)
    by_ratio = (pulls[0] - pulls[1]).tolist()
    assert by_ratio == pytest.approx([0.00187830, -0.0369344], abs=1e-6)
    expected = [[0.0240529, -0.0156885], [-0.0240529, 0.0156885]]
    assert torch.allclose(-0.1 * grads[0], torch.tensor(expected).double(), atol=1e-6)


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_directions_are_the_gradients_of_the_losses(temperature):
    torch.manual_seed(0)
    z, teacher = torch.randn(2, 7, 5, dtype=torch.float64)
    labels, z = torch.randint(5, (7,)), z.requires_grad_()
    log_p, p = (z / temperature).log_softmax(1), (teacher / temperature).softmax(1)
    kd = temperature**2 * (p * (p.log() - log_p)).sum()
    ce = F.cross_entropy(z, labels, reduction='sum')
    found = loss_directions(z.detach(), teacher, labels, temperature)
    for mine, loss in zip(found, (kd, ce), strict=True):
        assert torch.allclose(mine, torch.autograd.grad(loss, z)[0], rtol=1e-10)


# ------------------------------------------------------------------ against real steps

OTHERS = dict(
    first_nesterov=(*NESTEROV, 0, 1.0),
    adam=(torch.optim.Adam, dict(lr=0.01, weight_decay=0.1, eps=1e-4), 2, 1.0),
    clipped_sgd=(torch.optim.SGD, dict(lr=0.1, momentum=0.5, dampening=0.3), 2, 0.3),
    clipped_adamw=(*ADAMW, 2, 0.3),
)


def differences(case, state, size=1e-4):
    """Central differences of the held-out loss by every single weight, ``(2, B)``."""
    found = torch.empty_like(case.weights)
    for place in range(found.numel()):
        shift = torch.zeros_like(found).view(-1)
        shift[place] = size
        shift = shift.view_as(found)
        high, low = (case.after_a_real_step(case.weights + s * shift, state) for s in (1, -1))
        found.view(-1)[place] = (high - low) / (2 * size)
    return found


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.parametrize('name', [each for each in STUDENTS if each not in ('resnet8', 'vit')])
def test_equal_to_real_steps_with_other_weights(name, optimizer):
    case = Case(name, OPTIMIZERS[optimizer], batch=2)
    step = case.step()
    expected = differences(case, step.generators)
    assert expected.abs().min() > 1e-7
    for solver in ('exact', 'unroll'):
        found, loss = case.solved(solver, step)
        cosine, error = apart(found, expected)
        assert cosine > 1 - 1e-9 and error < 1e-4
        whole = case.after_a_real_step(case.weights, step.generators)
        assert loss.item() == pytest.approx(float(whole), rel=1e-10)


@pytest.mark.parametrize('name', OTHERS)
def test_equal_to_real_steps_of_other_optimizers(name):
    kind, options, steps, clip = OTHERS[name]
    case = Case('mlp', (kind, options), steps=steps, clip=clip, batch=3)
    step = case.step()
    expected = differences(case, step.generators)
    for solver in ('exact', 'unroll', 'finite_difference'):
        assert apart(case.solved(solver, step)[0], expected)[1] < 1e-5


def test_the_second_moment_can_be_left_out():
    case = Case('mlp', ADAMW)
    step = case.step()
    whole, part = (
        case.solved('exact', step, through_second_moment=each)[0] for each in (True, False)
    )
    # by hand: the change of Adam's spread with the gradient is not counted
    by_hand = case.solved('finite_difference', step, through_second_moment=False)[0]
    assert apart(part, by_hand)[1] < 1e-5 and apart(part, whole)[1] > 1e-2
    sgd = Case('mlp', NESTEROV)
    step = sgd.step()
    found = [sgd.solved('exact', step, through_second_moment=each)[0] for each in (True, False)]
    assert torch.equal(*found)


# ------------------------------------------------------------------ solvers among each other


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.parametrize('name', STUDENTS)
def test_exact_is_the_unrolled_step(name, optimizer, dtype):
    case = Case(name, OPTIMIZERS[optimizer], dtype)
    step = case.step()
    (found, loss), (expected, other) = (case.solved(each, step) for each in ('exact', 'unroll'))
    assert found.dtype == expected.dtype == dtype
    cosine, error = apart(found, expected)
    assert cosine > 0.9999 and error < (1e-4 if dtype == torch.float32 else 1e-9)
    assert loss.item() == pytest.approx(other.item(), rel=1e-6)


@pytest.mark.parametrize('name', STUDENTS)
def test_finite_differences_are_close(name):
    for dtype, near in ((torch.float32, 0.995), (torch.float64, 0.9999)):
        case = Case(name, NESTEROV, dtype)
        step = case.step()
        found = case.solved('finite_difference', step)[0]
        assert apart(found, case.solved('exact', step)[0])[0] > near


def test_the_error_of_differences_falls_with_the_square():
    case = Case('tied', NESTEROV)
    step = case.step()
    expected = case.solved('exact', step)[0]
    errors = [
        apart(case.solved('finite_difference', step, epsilon=each)[0], expected)[1]
        for each in (1e-1, 1e-2, 1e-3)
    ]
    assert errors[0] > 1e-6
    for larger, smaller in zip(errors, errors[1:], strict=False):
        assert larger / smaller == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.parametrize('name', ['mlp_dropout', 'resnet8'])
def test_the_last_layer_is_exact_where_only_it_is_trained(name, optimizer):
    case = Case(name, OPTIMIZERS[optimizer], only='head')
    step = case.step()
    (found, loss), (expected, other) = (case.solved(each, step) for each in ('last_layer', 'exact'))
    assert apart(found, expected)[1] < 1e-9
    assert loss.item() == pytest.approx(other.item(), rel=1e-10)
    whole = Case(name, OPTIMIZERS[optimizer])
    step = whole.step()
    found, expected = (whole.solved(each, step)[0] for each in ('last_layer', 'exact'))
    assert apart(found, expected)[1] > 1e-3


def test_a_sample_without_weight_is_pulled_all_the_same():
    case = Case('mlp', NESTEROV, batch=3)
    case.weights[:, 1] = 0
    step = case.step()
    assert apart(case.solved('exact', step)[0], differences(case, step.generators))[1] < 1e-5
    assert case.solved('exact', step)[0][:, 1].abs().min() > 1e-6


@pytest.mark.parametrize('solver', ['exact', 'unroll', 'finite_difference'])
def test_units_that_are_dead_on_the_whole_batch(solver):
    case = Case('mlp', (torch.optim.AdamW, dict(lr=0.01)), steps=0)
    with torch.no_grad():  # below zero by far, so its slope is tiny but for ReLU
        case.student.stage1[0].bias[0] = -50
    case.student.stage1[1] = nn.ReLU()
    pulls, _ = case.solved(solver)
    assert pulls.isfinite().all() and pulls.abs().max() > 0


# ------------------------------------------------------------------ nothing is left behind


@pytest.mark.parametrize('solver', SOLVERS)
@pytest.mark.parametrize('name', STUDENTS)
def test_nothing_of_the_student_changes(name, solver):
    case = Case(name, NESTEROV if name == 'mlp' else ADAMW, torch.float32, batch=3)
    step = case.step()
    marks = [torch.full_like(each, 7.0) for each in case.params]
    for param, mark in zip(case.params, marks, strict=True):
        param.grad = mark

    def everything():
        student = case.student
        return copy.deepcopy(
            dict(
                state=dict(student.state_dict()),
                optimizer=case.optimizer.state_dict(),
                generators=rng_state(),
                grads=[each.grad for each in case.params],
                given=list(step.grads),
                modes=[each.training for each in student.modules()],
                hooks=[len(each._forward_pre_hooks) for each in student.modules()],
                trained=[each.requires_grad for each in student.parameters()],
                data=[case.batch, case.held_out, case.teacher, step.head_inputs],
            )
        )

    before = everything()
    assert any('running_mean' in each for each in before['state']) == (name == 'resnet8')
    torch.rand(3)  # the present state is not that of the pass
    before['generators'] = copy.deepcopy(rng_state())
    case.solved(solver, step)
    assert state_differences(before, everything()) == []
    assert all(a.grad is b for a, b in zip(case.params, marks, strict=True))


def test_the_mask_of_dropout_is_that_of_the_pass():
    case = Case('mlp_dropout', NESTEROV)
    step = case.step()
    torch.rand(17)
    found = case.solved('exact', step)[0]
    torch.manual_seed(5)
    assert torch.equal(case.solved('exact', step)[0], found)
    step.generators = generators(CPU)
    assert apart(case.solved('exact', step)[0], found)[1] > 1e-2


# ------------------------------------------------------------------ messages


def test_along_nothing_the_logits_stay():
    case = Case('mlp', NESTEROV)
    none = [None] * len(case.params)
    logits, change = logits_along(case.student, case.params, none, case.batch)
    assert torch.equal(logits, case.student(**case.batch).logits) and not change.any()


class Bag(nn.Module):
    """A sum of embeddings, which torch has no forward derivative of; or one of our own."""

    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingBag(9, 5)

    def forward(self, ids):
        """Logits."""
        return Classified(self.table(ids))


class OnlyBackward(torch.autograd.Function):
    """The identity, without a forward derivative."""

    @staticmethod
    def forward(ctx, x):
        """The same."""
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        """The same."""
        return grad


class OwnFunction(Bag):
    """With the identity above."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(9, 5)

    def forward(self, ids):
        """Logits."""
        return Classified(OnlyBackward.apply(self.head(F.one_hot(ids, 9).float().sum(1))))


@pytest.mark.parametrize('kind', [Bag, OwnFunction])
def test_operations_without_a_forward_derivative_are_named(kind):
    student = kind()
    params = list(student.parameters())
    ids = torch.arange(6).view(2, 3)
    direction = [torch.ones_like(each) for each in params]
    message = rf"{kind.__name__} has an operation without .*use solver='finite_difference'"
    with pytest.raises(UserError, match=message):
        logits_along(student, params, direction, dict(ids=ids))


def test_what_the_solvers_refuse():
    case = Case('mlp', NESTEROV)
    step = case.step()
    with pytest.raises(UserError, match=r"one of \['exact', .*'unroll'\], got 'neumann'"):
        case.solved('neumann', step)
    step.head_inputs = None
    with pytest.raises(UserError, match=r'needs Step\.head_inputs'):
        case.solved('last_layer', step)
    frozen = Case('mlp', NESTEROV, only='stage1')
    with pytest.raises(UserError, match=r"last layer is frozen; use solver='exact'"):
        frozen.solved('last_layer')
    for network, outputs in ((nn.Sequential(nn.Conv2d(3, 5, 1)), None), (nn.Linear(3, 4), 5)):
        with pytest.raises(UserError, match=r'does not end with a linear layer'):
            last_linear(network, outputs)
    other = Case('mlp', (torch.optim.RMSprop, dict(lr=0.1)), steps=0)
    for solver in ('exact', 'last_layer', 'finite_difference'):
        with pytest.raises(UserError, match='RMSprop'):
            other.solved(solver)
