"""Losses between student and teacher: values by hand, other ways to compute them, invariances."""

import itertools
import math

import pytest
import torch
from torch import nn

from mmdistill.core.errors import UserError
from mmkd.distillation.connectors import ConvConnector, LinearConnector
from mmkd.distillation.knowledge import Knowledge, distillation_per_sample
from mmkd.distillation.losses.attention_transfer import AttentionTransfer, attention
from mmkd.distillation.losses.base import DistillationLoss, same_size
from mmkd.distillation.losses.dkd import DKD, decoupled_per_sample
from mmkd.distillation.losses.fitnet import FitNet
from mmkd.distillation.losses.rkd import RKD, angles, relative_distances
from mmkd.registry import MODELS

POINTS = dict(angle=0, student_layer='s', teacher_layer='t')
FEATURE_LOSSES = [
    FitNet('s', 't'),
    AttentionTransfer(['s'], ['t']),
    RKD(student_layer='s', teacher_layer='t'),
]


def knowledge(batch=6, classes=5, **more):
    """Of a student with a graph, 64 bits."""
    torch.manual_seed(0)
    student, teacher = (2 * torch.randn(2, batch, classes, dtype=torch.float64)).unbind()
    labels = torch.randint(classes, (batch,))
    more = dict(dict(temperature=4.0), **more)
    return Knowledge(student.clone().requires_grad_(), teacher, labels, **more)


def with_features(student, teacher):
    """Features of the layers s and t."""
    return knowledge(
        len(student), student_features=dict(s=student), teacher_features=dict(t=teacher)
    )


def maps(*shape, seed=0):
    """Random features, 64 bits."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------ weights


class Progress(DistillationLoss):
    """Is 2."""

    def loss(self, k):
        """Of everything."""
        return torch.tensor(2.0)


def test_weight_and_warmup():
    loss = Progress(weight=3.0, warmup=0.2)
    found = [loss(knowledge(progress=each)).item() for each in (0, 0.05, 0.1, 0.2, 0.7, 1)]
    assert found == pytest.approx([0, 1.5, 3, 6, 6, 6])
    assert Progress()(knowledge(progress=0)).item() == 2
    assert (loss.student_layers, loss.teacher_layers) == ((), ())
    with pytest.raises(UserError, match=r'Progress: warmup is a share .* got 20'):
        Progress(warmup=20)
    with pytest.raises(NotImplementedError):
        DistillationLoss()(knowledge())


@pytest.mark.parametrize('loss', [DKD(), RKD(), *FEATURE_LOSSES], ids=lambda x: type(x).__name__)
def test_scalar_and_proportional_to_the_weight(loss):
    k = with_features(maps(6, 3, 4, 4), maps(6, 3, 4, 4, seed=1))
    whole = loss(k)
    assert whole.shape == () and whole > 0
    loss.weight = 0.5
    assert torch.allclose(loss(k), whole / 2, rtol=1e-12)
    loss.weight = 1.0


# ------------------------------------------------------------------ DKD


def test_dkd_by_hand():
    # teacher (1/4, 1/2, 1/4), student (1/2, 1/4, 1/4), label 0
    k = Knowledge(
        torch.tensor([[2.0, 1, 1]]).log(), torch.tensor([[1.0, 2, 1]]).log(), torch.tensor([0])
    )
    target = math.log(1 / 2) / 4 + 3 / 4 * math.log(3 / 2)  # (1/4, 3/4) to (1/2, 1/2)
    others = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)  # (2/3, 1/3) to (1/2, 1/2)
    assert DKD()(k).item() == pytest.approx(target + 8 * others, abs=1e-6)
    assert DKD(beta=0)(k).item() == pytest.approx(target, abs=1e-6)
    assert DKD(alpha=0, beta=1)(k).item() == pytest.approx(others, abs=1e-6)
    assert target + 8 * others == pytest.approx(0.583876, abs=1e-6)


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_dkd_equals_sums_over_probabilities(temperature):
    k = knowledge(temperature=temperature)
    target, others = [], []
    for z, v, y in zip(k.student.tolist(), k.teacher.tolist(), k.labels.tolist(), strict=True):
        q, p = ([math.exp(each / temperature) for each in row] for row in (z, v))
        q, p = ([each / sum(row) for each in row] for row in (q, p))
        target.append(p[y] * math.log(p[y] / q[y]) + (1 - p[y]) * math.log((1 - p[y]) / (1 - q[y])))
        rest = [(p[c] / (1 - p[y]), q[c] / (1 - q[y])) for c in range(5) if c != y]
        others.append(sum(a * math.log(a / b) for a, b in rest))
    found = decoupled_per_sample(k.student, k.teacher, k.labels, temperature)
    for mine, expected in zip(found, (target, others), strict=True):
        assert mine.tolist() == pytest.approx([temperature**2 * each for each in expected])
    mean = temperature**2 * (sum(target) + 8 * sum(others)) / 6
    assert DKD()(k).item() == pytest.approx(mean)
    assert DKD(temperature=temperature)(knowledge(temperature=9.0)).item() == pytest.approx(mean)


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_both_parts_together_are_distillation(temperature):
    k = knowledge(batch=50)
    target, others = decoupled_per_sample(k.student, k.teacher, k.labels, temperature)
    right = (k.teacher / temperature).softmax(-1)[torch.arange(50), k.labels]
    whole = distillation_per_sample(k.student, k.teacher, temperature)
    assert torch.allclose(target + (1 - right) * others, whole, rtol=1e-9)
    gradients = [
        torch.autograd.grad(each.sum(), k.student)[0]
        for each in (target + (1 - right) * others, whole)
    ]
    assert torch.allclose(*gradients, atol=1e-12)


def test_dkd_of_classes_and_samples_in_another_order():
    k = knowledge()
    samples, classes = torch.tensor([4, 0, 5, 1, 3, 2]), torch.tensor([3, 0, 4, 1, 2])
    moved = Knowledge(
        k.student[samples][:, classes],
        k.teacher[samples][:, classes],
        classes.argsort()[k.labels[samples]],
        4.0,
    )
    assert torch.allclose(DKD()(moved), DKD()(k), rtol=1e-12)


def test_dkd_of_equal_logits_two_classes_and_sure_networks():
    k = knowledge()
    same = Knowledge(k.teacher + 3, k.teacher, k.labels, 4.0)
    assert DKD()(same).abs() < 1e-12
    two = knowledge(classes=2)
    assert torch.allclose(
        DKD()(two), distillation_per_sample(two.student, two.teacher, 4.0).mean(), rtol=1e-12
    )
    student = torch.tensor([[0.0, 300, 0], [300, 0, 0]], requires_grad=True)
    teacher = torch.tensor([[300.0, 0, 0], [0, 0, 300]])
    loss = DKD(temperature=1)(Knowledge(student, teacher, torch.tensor([0, 0])))
    assert loss.isfinite() and torch.autograd.grad(loss, student)[0].isfinite().all()


# ------------------------------------------------------------------ RKD


def relations(points):
    """Distances and angles, point by point."""
    rows, number = points.tolist(), len(points)
    distance = [[math.dist(a, b) for b in rows] for a in rows]
    mean = sum(map(sum, distance)) / (number * (number - 1))
    cosine = torch.zeros(number, number, number, dtype=torch.float64)
    for j, i, k in itertools.product(range(number), repeat=3):
        if distance[i][j] and distance[k][j]:
            sides = zip(rows[i], rows[j], rows[k], strict=True)
            dot = sum((a - b) * (c - b) for a, b, c in sides)
            cosine[j, i, k] = dot / (distance[i][j] * distance[k][j])
    return torch.tensor(distance, dtype=torch.float64) / mean, cosine


def huber(one, other):
    """Mean of squares over 2 below 1, of distances less 1/2 above."""
    gap = (one - other).abs()
    return torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean()


def test_rkd_by_hand():
    line, triangle = torch.tensor([[0.0], [1], [3]]), torch.eye(3)
    k = with_features(line, triangle)
    # distances 1/2, 3/2, 1 to 1, 1, 1: two pairs, both ways, 1/8 each
    distance = 4 / 8 / 9
    assert RKD(**POINTS)(k).item() == pytest.approx(25 * distance, rel=1e-5)
    # cosines 1, -1, 1 to 1/2: gaps 1/2, 3/2, 1/2, both ways
    angle = 2 * (1 / 8 + 1 + 1 / 8) / 27
    found = RKD(distance=0, student_layer='s', teacher_layer='t')(k)
    assert found.item() == pytest.approx(50 * angle, rel=1e-5)
    found = RKD(student_layer='s', teacher_layer='t')(k)
    assert found.item() == pytest.approx(6.018519, rel=1e-5)


@pytest.mark.parametrize('same', [False, True])
def test_rkd_equals_loops_over_points(same):
    mine, theirs = maps(6, 3), 3 * maps(6, 4, seed=1)
    if same:
        mine[4] = mine[1]
    (d, a), (e, b) = relations(mine), relations(theirs)
    assert torch.allclose(relative_distances(mine), d, atol=1e-12)
    assert torch.allclose(angles(mine), a, atol=1e-12)
    expected = 25 * huber(d, e) + 50 * huber(a, b)
    k = with_features(mine, theirs)
    assert torch.allclose(RKD(student_layer='s', teacher_layer='t')(k), expected, rtol=1e-10)
    logits = Knowledge(mine, theirs, k.labels)
    assert torch.allclose(RKD()(logits), expected, rtol=1e-10)


def test_rkd_does_not_see_rotation_scale_place_and_order():
    mine, theirs = maps(6, 3), maps(6, 4, seed=1)
    rotation = torch.linalg.qr(maps(3, 3, seed=2))[0]
    moved = 7 * mine @ rotation + maps(1, 3, seed=3)
    loss, order = RKD(student_layer='s', teacher_layer='t'), torch.tensor([4, 0, 5, 1, 3, 2])
    expected = loss(with_features(mine, theirs))
    assert torch.allclose(loss(with_features(moved, theirs)), expected, rtol=1e-10)
    assert torch.allclose(loss(with_features(mine[order], theirs[order])), expected, rtol=1e-10)
    assert loss(with_features(mine, moved)) < 1e-20 < 0.1 < expected
    assert not torch.allclose(loss(with_features(mine[order], theirs)), expected, rtol=1e-2)


@pytest.mark.parametrize('batch', ['twins', 'all the same', 'one'])
def test_rkd_has_a_gradient_where_points_coincide(batch):
    mine = dict(
        twins=torch.tensor([[0.0, 1], [0, 1], [2, 3]]),
        one=torch.ones(1, 2),
    ).get(batch, torch.ones(3, 2))
    mine.requires_grad_()
    loss = RKD()(Knowledge(mine, maps(len(mine), 2).float(), torch.zeros(len(mine)).long()))
    found = torch.autograd.grad(loss, mine)[0]
    assert loss.isfinite() and found.isfinite().all() and found.abs().max() < 100
    assert (found.abs().max() > 0) == (batch == 'twins')


def test_rkd_gradients():
    leaf = maps(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(relative_distances, leaf)
    assert torch.autograd.gradcheck(angles, leaf)


def test_rkd_in_half_precision_computes_in_single():
    mine, theirs = (maps(5, 3, seed=n).bfloat16() for n in (0, 1))
    k = Knowledge(mine, theirs, torch.zeros(5).long())
    expected = RKD()(Knowledge(mine.float(), theirs.float(), k.labels))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(RKD()(k), expected)


def test_rkd_needs_both_layers():
    with pytest.raises(UserError, match="student_layer and teacher_layer, or neither.*'s' and N"):
        RKD(student_layer='s')
    assert RKD().student_layers == RKD().teacher_layers == ()
    loss = RKD(student_layer='a', teacher_layer='b')
    assert (loss.student_layers, loss.teacher_layers) == (('a',), ('b',))


# ------------------------------------------------------------------ features


@pytest.mark.parametrize('loss', FEATURE_LOSSES, ids=lambda x: type(x).__name__)
def test_equal_features_cost_nothing(loss):
    mine = maps(6, 3, 4, 4).requires_grad_()
    found = loss(with_features(mine, mine.detach().clone()))
    assert found.abs() < 1e-20
    assert torch.autograd.grad(found, mine)[0].abs().max() < 1e-10


@pytest.mark.parametrize('loss', FEATURE_LOSSES, ids=lambda x: type(x).__name__)
def test_the_student_is_drawn_to_the_teacher_and_samples_may_be_in_any_order(loss):
    mine, theirs = maps(6, 3, 4, 4).requires_grad_(), maps(6, 3, 4, 4, seed=1)
    order = torch.tensor([4, 0, 5, 1, 3, 2])
    before = loss(with_features(mine, theirs))
    assert torch.allclose(loss(with_features(mine[order], theirs[order])), before, rtol=1e-10)
    gradient = torch.autograd.grad(before, mine)[0]
    with torch.no_grad():
        nearer = mine - 1e-3 * gradient / gradient.norm()
    assert loss(with_features(nearer, theirs)) < before


@pytest.mark.parametrize('loss', FEATURE_LOSSES, ids=lambda x: type(x).__name__)
def test_missing_features_are_named(loss):
    k = with_features(maps(6, 3, 4, 4), maps(6, 3, 4, 4))
    k.teacher_features = dict(other=maps(6, 3))
    with pytest.raises(UserError, match=r"layer 't' of the teacher .*recorded: \['other'\]"):
        loss(k)
    k.student_features = {}
    with pytest.raises(UserError, match=r"layer 's' of the student .*recorded: \[\]"):
        loss(k)


def test_the_larger_map_is_averaged():
    large = maps(2, 3, 8, 4)
    small, same = same_size(large, maps(2, 5, 4, 2))
    assert torch.allclose(small, large.view(2, 3, 4, 2, 2, 2).mean((3, 5)), rtol=1e-12)
    assert same.shape == (2, 5, 4, 2)
    mine, theirs = same_size(maps(2, 3, 8, 2), maps(2, 5, 4, 6))
    assert mine.shape == (2, 3, 4, 2) and theirs.shape == (2, 5, 4, 2)
    one, other = maps(2, 3, 4, 4), maps(2, 3)
    assert all(a is b for a, b in zip(same_size(one, other), (one, other), strict=True))
    assert same_size(one, one)[0] is one


def test_fitnet_is_the_mean_square():
    mine, theirs = maps(6, 3, 4, 4), maps(6, 3, 2, 2, seed=1)
    found = FitNet('s', 't')(with_features(mine, theirs))
    pooled = mine.view(6, 3, 2, 2, 2, 2).mean((3, 5))
    assert found.item() == pytest.approx(((pooled - theirs) ** 2).mean().item(), rel=1e-12)
    expected = FitNet('s', 't')(with_features(theirs, mine))
    assert torch.allclose(found, expected, rtol=1e-12)


def test_fitnet_trains_its_connector():
    loss = FitNet('s', 't', dict(type=ConvConnector, in_channels=3, out_channels=5)).double()
    mine, theirs = maps(6, 3, 4, 4).requires_grad_(), maps(6, 5, 2, 2, seed=1)
    loss(with_features(mine, theirs)).backward()
    assert all(each.grad.abs().sum() > 0 for each in loss.parameters()) and mine.grad is not None
    tokens = FitNet('s', 't', LinearConnector(3, 5)).double()
    k = with_features(maps(6, 7, 3), maps(6, 7, 5, seed=1))
    expected = (tokens.connector(k.student_features['s']) - k.teacher_features['t']).square()
    assert torch.allclose(tokens(k), expected.mean(), rtol=1e-12)


def test_fitnet_of_a_connector_that_finds_the_teacher_costs_nothing():
    loss = FitNet('s', 't', ConvConnector(3, 3)).double()
    nn.init.dirac_(loss.connector.conv.weight)
    nn.init.zeros_(loss.connector.conv.bias)
    mine = maps(6, 3, 4, 4)
    assert loss(with_features(mine, mine.clone())).item() == 0


def test_fitnet_of_another_width_says_what_to_do():
    k = with_features(maps(6, 3, 4, 4), maps(6, 5, 4, 4))
    with pytest.raises(UserError, match=r"'s' of the .*\(6, 3, 4, 4\).*\(6, 5, 4, 4\).*Connector"):
        FitNet('s', 't')(k)


def test_attention_by_hand():
    mine = torch.tensor([[[[1.0, 2]], [[0, 0]]]])
    theirs = torch.tensor([[[[1.0, -1]]]])
    assert attention(mine)[0].tolist() == pytest.approx([1 / 17**0.5, 4 / 17**0.5])
    found = AttentionTransfer(['s'], ['t'])(with_features(mine, theirs))
    # unit vectors of cosine 5 / 34^(1/2): their squared distance over two positions
    assert found.item() == pytest.approx(1 - 5 / 34**0.5, rel=1e-5)


def test_attention_does_not_see_scale_sign_and_order_of_channels():
    mine, theirs = maps(6, 3, 4, 4), maps(6, 8, 2, 2, seed=1)
    loss = AttentionTransfer(['s'], ['t'])
    expected = loss(with_features(mine, theirs))
    scale = torch.rand(6, 1, 1, 1, dtype=torch.float64) + 0.5  # of every sample another
    for changed in (scale * mine, 1000 * mine, -mine, mine[:, [2, 0, 1]]):
        assert torch.allclose(loss(with_features(changed, theirs)), expected, rtol=1e-10)
    assert torch.allclose(loss(with_features(mine, 5 * theirs)), expected, rtol=1e-10)
    shifted = mine.roll(1, -1)
    assert not torch.allclose(loss(with_features(shifted, theirs)), expected, rtol=1e-3)


def test_attention_of_tokens_is_that_of_the_map():
    mine = maps(6, 3, 4, 4)
    tokens = mine.flatten(2).transpose(1, 2)
    assert torch.allclose(attention(tokens), attention(mine), rtol=1e-12)


def test_attention_of_nothing_has_a_gradient():
    mine = torch.zeros(2, 3, 2, 2, requires_grad=True)
    loss = AttentionTransfer(['s'], ['t'])(with_features(mine, maps(2, 3, 2, 2).float()))
    assert loss > 0 and torch.equal(torch.autograd.grad(loss, mine)[0], torch.zeros(2, 3, 2, 2))
    # squares of large numbers in 16 bits
    assert attention(torch.full((1, 4, 2, 2), 500.0).half()).tolist() == [[0.5] * 4]


def test_attention_sums_over_layers():
    pairs = [(maps(6, 3, 4, 4, seed=n), maps(6, 5, 4, 4, seed=n + 1)) for n in (0, 5)]
    single = [AttentionTransfer(['s'], ['t'])(with_features(*each)) for each in pairs]
    k = knowledge(
        student_features=dict(a=pairs[0][0], b=pairs[1][0]),
        teacher_features=dict(c=pairs[0][1], d=pairs[1][1]),
    )
    assert torch.allclose(AttentionTransfer(['a', 'b'], ['c', 'd'])(k), sum(single), rtol=1e-12)


def test_attention_says_what_is_wrong():
    for layers in ((['a'], ['b', 'c']), ([], [])):
        with pytest.raises(UserError, match='lists of the same length, one name at least'):
            AttentionTransfer(*layers)
    loss = AttentionTransfer(['s'], ['t'])
    with pytest.raises(UserError, match=r"needs \(B, C, h, w\) or .*'s' of the .*\(6, 3\)"):
        loss(with_features(maps(6, 3), maps(6, 3, 4, 4)))
    with pytest.raises(UserError, match=r'as many positions on both sides.*\(6, 9, 3\)'):
        loss(with_features(maps(6, 9, 3), maps(6, 3, 4, 4)))


def test_by_config():
    layers = dict(student_layers=['s'], teacher_layers=['t'])
    loss = MODELS.build(dict(type=AttentionTransfer, **layers, weight=1000.0, warmup=0.1))
    assert (loss.weight, loss.warmup, loss.student_layers) == (1000.0, 0.1, ('s',))
    for kind in (DKD, RKD, FitNet, AttentionTransfer):
        assert MODELS.get(f'mmkd.{kind.__name__}') is kind
