"""The ratio network: what it sees, in which order, and what of it reaches the student."""

import pytest
import torch
import torch.nn.functional as F

from mmdistill.core.errors import UserError
from mmkd.distillation.knowledge import (
    Knowledge,
    cross_entropy_per_sample,
    distillation_per_sample,
)
from mmkd.distillation.weighters.tgeo_kd import EDGES, FORMS, Form, TGeoKD, angle, edge, geometry
from mmkd.registry import MODELS


def knowledge(batch=6, classes=5, dtype=torch.float64, **more):
    """Of a student with a graph."""
    torch.manual_seed(0)
    student, teacher = (2 * torch.randn(2, batch, classes, dtype=torch.float64)).to(dtype).unbind()
    labels = torch.randint(classes, (batch,))
    means = torch.randn(classes, classes).softmax(1)[labels]
    more = dict(dict(temperature=4.0, class_mean=means), **more)
    return Knowledge(student.clone().requires_grad_(), teacher, labels, **more)


def corners(k):
    """Probabilities by letter, in 32 bits as the network has them."""
    return dict(
        S=k.student.detach().float().softmax(1),
        T=k.teacher.float().softmax(1),
        G=F.one_hot(k.labels, k.student.shape[1]).float(),
        M=k.class_mean,
    )


def training_loss(weights, k):
    """As the weights enter it."""
    return (
        weights[0] * distillation_per_sample(k.student, k.teacher, k.temperature)
        + weights[1] * cross_entropy_per_sample(k.student, k.labels)
    ).mean()


# ------------------------------------------------------------------ features


def test_the_papers_vector_block_by_block():
    k = knowledge()
    p = corners(k)
    blocks = [p['S'], p['T'], p['G'], p['M']]
    blocks += [(p[a] - p[b]) ** 2 for a, b in ('MS', 'GS', 'TS', 'TG', 'MG')]
    found = TGeoKD(5).features(k)
    assert found.shape == (6, 9 * 5)
    for mine, expected in zip(found.split(5, 1), blocks, strict=True):
        assert torch.allclose(mine, expected, atol=1e-7) and (mine >= 0).all()


def test_the_first_releases_vectors_block_by_block():
    k = knowledge()
    p = corners(k)
    s, t, g, m = (p[each] for each in 'STGM')
    sides = [(m - s) ** 2, (g - s) ** 2, (t - s) ** 2]
    angles = [(m - s) * (g - s), (t - s) * (g - s)]
    expected = dict(
        vertices=[s, t, g, m],
        edges=sides,
        early=[s, t, g, m, *sides],
        vertices_angles=[s, t, g, m, *angles],
        edges_angles=[*sides, *angles],
        all=[s, t, g, m, *sides, *angles],
        angles=angles,
        cifar=[
            s,
            t,
            m,
            g,
            *[(s - e).abs() for e in (g, t, m)],
            (g - m) * (g - s),
            (g - t) * (g - s),
        ],
        criteo=[s, t, g, (s - t) ** 2, (s - g) ** 2, (t - g) ** 2],
    )
    for name, blocks in expected.items():
        found = TGeoKD(5, name).features(k)
        assert torch.allclose(found, torch.cat(blocks, 1), atol=1e-7), name


@pytest.mark.parametrize('kind', EDGES)
@pytest.mark.parametrize('name', FORMS)
def test_every_form_is_as_wide_as_it_says(name, kind):
    k = knowledge()
    weighter = TGeoKD(5, name, edge=kind)
    features = weighter.features(k)
    assert features.shape == (6, weighter.form.width(5)) and features.dtype == torch.float32
    assert weighter.network[0].in_features == features.shape[1]
    needs = 'M' in FORMS[name].vertices + ''.join((*FORMS[name].edges, *FORMS[name].angles))
    assert weighter.needs_class_mean is needs
    for each in weighter(k):
        assert each.shape == (6,) and each.requires_grad


def test_edges_vanish_where_all_corners_are_one():
    point = F.one_hot(torch.tensor([1, 0, 2]), 3).float()
    for name, form in FORMS.items():
        found = geometry(dict.fromkeys('STGM', point), form)
        whole = len(form.vertices) * 3
        assert torch.equal(found[:, :whole], point.repeat(1, len(form.vertices))), name
        assert not found[:, whole:].any()
    sure = 200 * point
    k = Knowledge(sure, sure, torch.tensor([1, 0, 2]), class_mean=point)
    assert not TGeoKD(3).features(k)[:, 12:].any()


def test_kinds_of_edges_by_hand():
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    expected = dict(square=[9, 16], abs=[3, 4], diff=[3, -4], l2=[5], cosine=[0])
    assert set(expected) == set(EDGES)
    for kind, values in expected.items():
        assert edge(a, b, kind).tolist() == [values]
    assert edge(a, 2 * a, 'cosine').item() == pytest.approx(1)
    corner = torch.tensor([[1.0, 1.0]])
    assert angle(a, corner, b).tolist() == [[2 * -1, -1 * 3]]


@pytest.mark.parametrize('name', FORMS)
def test_another_order_of_the_classes_permutes_every_block(name):
    k, order = knowledge(), torch.tensor([3, 0, 4, 1, 2])
    moved = Knowledge(
        k.student[:, order],
        k.teacher[:, order],
        order.argsort()[k.labels],
        class_mean=k.class_mean[:, order],
    )
    weighter = TGeoKD(5, name)
    found, expected = weighter.features(moved), weighter.features(k)
    blocks = [each[:, order] for each in expected.split(5, 1)]
    assert torch.allclose(found, torch.cat(blocks, 1), atol=1e-7)
    assert not torch.allclose(found, expected, atol=1e-3)
    scalar = TGeoKD(5, Form('', FORMS['final'].edges).__dict__, edge='l2')
    assert torch.allclose(scalar(moved)[0], scalar(k)[0], atol=1e-7)


def test_the_temperature_of_the_features_is_its_own():
    k = knowledge()
    warm = TGeoKD(5, 'vertices', feature_temperature=2.0).features(k)
    expected = torch.cat([(each.detach() / 2).softmax(1) for each in (k.student, k.teacher)], 1)
    assert torch.allclose(warm[:, :10], expected.float(), atol=1e-7)
    other = knowledge(temperature=1.0)
    assert torch.equal(TGeoKD(5).features(k), TGeoKD(5).features(other))


# ------------------------------------------------------------------ network


@pytest.mark.parametrize(('classes', 'count'), [(100, 29377), (1000, 288577)])
def test_number_of_parameters(classes, count):
    weighter = MODELS.build(dict(type='mmkd.TGeoKD', num_classes=classes))
    assert sum(each.numel() for each in weighter.parameters()) == count


def test_the_ratio_is_the_networks_sigmoid_sample_by_sample():
    k, weighter = knowledge(), TGeoKD(5, hidden=(4, 3), slope=0.2)
    x = weighter.features(k)
    for place, slope in ((0, 0.2), (2, 0.2), (4, 1.0)):
        layer = weighter.network[place]
        x = x @ layer.weight.T + layer.bias
        x = torch.where(x > 0, x, slope * x)
    kd, ce = weighter(k)
    assert torch.allclose(kd, 1 / (1 + torch.exp(-x[:, 0])), atol=1e-6)
    assert torch.equal(ce, 1 - kd) and kd.std() > 1e-3
    single = Knowledge(k.student[2:3], k.teacher[2:3], k.labels[2:3], class_mean=k.class_mean[2:3])
    assert torch.allclose(weighter(single)[0], kd[2:3], atol=1e-6)


def test_bounds():
    k, weighter = knowledge(), TGeoKD(5, bounds=(0.2, 0.7))
    plain = TGeoKD(5)
    plain.load_state_dict(weighter.state_dict())
    assert torch.allclose(weighter(k)[0], 0.2 + 0.5 * plain(k)[0], atol=1e-6)
    for value, end in ((-200.0, 0.2), (200.0, 0.7)):
        torch.nn.init.constant_(weighter.network[-1].bias, value)
        assert weighter(k)[0].tolist() == pytest.approx([end] * 6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_in_single_precision_also_under_autocast(dtype):
    k, weighter = knowledge(dtype=dtype), TGeoKD(5)
    expected = weighter(k)[0]
    with torch.autocast('cpu', torch.bfloat16):
        found = weighter(k)[0]
    assert found.dtype == torch.float32 and torch.equal(found, expected)


# ------------------------------------------------------------------ what reaches the student


@pytest.mark.parametrize('name', ['final', 'all', 'cifar'])
@pytest.mark.parametrize('detach', [True, False])
def test_the_student_is_trained_as_with_constants(name, detach):
    k, weighter = knowledge(), TGeoKD(5, name, detach=detach)
    weights = weighter(k)
    found = torch.autograd.grad(training_loss(weights, k), k.student, retain_graph=True)[0]
    constants = tuple(each.detach() for each in weights)
    expected = torch.autograd.grad(training_loss(constants, k), k.student)[0]
    assert torch.allclose(found, expected, rtol=1e-12) is detach
    inner = torch.autograd.grad(training_loss(weights, k), list(weighter.parameters()))
    assert all(each.abs().sum() > 0 for each in inner)


def test_the_mean_of_the_batch_is_the_published_product():
    k = knowledge()
    weighter, plain = TGeoKD(5, 'cifar', batch_mean=True), TGeoKD(5, 'cifar')
    plain.load_state_dict(weighter.state_dict())
    ratio = plain(k)[0]
    kd = distillation_per_sample(k.student, k.teacher, 4.0)
    ce = cross_entropy_per_sample(k.student, k.labels)
    square = ratio[:, None] * kd + (1 - ratio[:, None]) * ce
    assert square.shape == (6, 6)
    found = training_loss(weighter(k), k)
    assert torch.allclose(found, square.mean(), rtol=1e-6)
    assert abs(found - training_loss((ratio, 1 - ratio), k)) > 1e-4 * found
    grads = [
        torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
        for loss, net in ((found, weighter), (square.mean(), plain))
    ]
    for mine, expected in zip(*grads, strict=True):
        assert torch.allclose(mine, expected, rtol=1e-4, atol=1e-7)


# ------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(form='finale'), r"form 'finale' is not known.*did you mean 'final'"),
        (dict(edge='cube'), r"edge must be one of .*'square'.*got 'cube'"),
        (dict(form=dict(vertices='SX')), r'a form has vertices S, T, G and M'),
        (dict(form=dict()), r'a form has vertices S, T, G and M'),
        (dict(learned='joint'), r"learned is 'meta', 'training' or None, got 'joint'"),
        (dict(bounds=(0.5, 0.5)), r'bounds must rise within \[0, 1\], got \(0\.5, 0\.5\)'),
        (dict(bounds=(-0.1, 1)), r'bounds must rise'),
        (dict(bounds=(0, 1.1)), r'bounds must rise'),
    ],
)
def test_wrong_settings_say_so(options, message):
    with pytest.raises(UserError, match=message):
        TGeoKD(5, **options)


def test_wrong_batches_say_so():
    with pytest.raises(UserError, match='num_classes=7, but the student has 5 and the teacher 5'):
        TGeoKD(7)(knowledge())
    with pytest.raises(UserError, match=r'needs class means .*mmkd\.ClassMeanHook'):
        TGeoKD(5)(knowledge(class_mean=None))
    assert TGeoKD(5, 'intra')(knowledge(class_mean=None))[0].shape == (6,)
