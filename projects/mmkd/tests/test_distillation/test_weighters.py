"""Rules of weights: their formulas, their ends, and what of them is learned."""

import math

import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.distillation.knowledge import (
    Knowledge,
    cross_entropy_per_sample,
    distillation_per_sample,
)
from mmkd.distillation.weighters.ada import ADAWeighter
from mmkd.distillation.weighters.annealing import AnnealingWeighter
from mmkd.distillation.weighters.base import SampleWeighter
from mmkd.distillation.weighters.constant import ConstantWeighter
from mmkd.distillation.weighters.free_ratio import FreeRatio
from mmkd.distillation.weighters.wsld import WSLD, WLSRatio
from mmkd.registry import MODELS

ALL = [
    dict(type=ConstantWeighter),
    dict(type=AnnealingWeighter),
    dict(type=ADAWeighter),
    dict(type=WSLD),
    dict(type=WLSRatio),
    dict(type=FreeRatio, num_samples=9),
    dict(type=FreeRatio, num_samples=9, learned='meta', bounded=False),
]
IDS = [each['type'].__name__ + each.get('learned', '') for each in ALL]


def knowledge(batch=6, classes=5, dtype=torch.float64, **more):
    """Of a student with a graph."""
    torch.manual_seed(0)
    student, teacher = (2 * torch.randn(2, batch, classes, dtype=torch.float64)).to(dtype).unbind()
    labels, index = torch.randint(classes, (batch,)), torch.randperm(9)[:batch]
    more = dict(dict(temperature=4.0, progress=0.25, index=index), **more)
    return Knowledge(student.clone().requires_grad_(), teacher, labels, **more)


def training_loss(weighter, k):
    """As the weights enter it."""
    kd, ce = weighter(k)
    return (
        kd * distillation_per_sample(k.student, k.teacher, k.temperature)
        + ce * cross_entropy_per_sample(k.student, k.labels)
    ).mean()


@pytest.mark.parametrize('config', ALL, ids=IDS)
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_one_pair_of_weights_per_sample(config, dtype):
    weighter = MODELS.build(config)
    kd, ce = weighter(knowledge(dtype=dtype))
    for each in (kd, ce):
        assert each.shape == (6,) and each.isfinite().all() and (each >= 0).all()
        assert each.dtype in (torch.float32, torch.float64)
    if config['type'] is not WSLD:
        assert torch.allclose(kd + ce, torch.ones_like(kd))


@pytest.mark.parametrize('config', ALL, ids=IDS)
def test_samples_and_classes_in_another_order(config):
    weighter, k = MODELS.build(config), knowledge()
    if isinstance(weighter, FreeRatio):
        torch.nn.init.normal_(weighter.values)
    samples, classes = torch.tensor([4, 0, 5, 1, 3, 2]), torch.tensor([3, 0, 4, 1, 2])
    moved = Knowledge(
        k.student[samples][:, classes],
        k.teacher[samples][:, classes],
        classes.argsort()[k.labels[samples]],
        k.temperature,
        k.progress,
        index=k.index[samples],
    )
    for one, other in zip(weighter(k), weighter(moved), strict=True):
        assert torch.allclose(one[samples], other, rtol=1e-10)


@pytest.mark.parametrize('config', ALL, ids=IDS)
def test_what_the_weights_depend_on(config):
    weighter, k = MODELS.build(config), knowledge()
    kd, ce = weighter(k)
    learned = isinstance(weighter, FreeRatio)
    assert (weighter.learned is None) == (not learned) == (not list(weighter.parameters()))
    assert weighter.needs_index is learned and weighter.needs_class_mean is False
    assert kd.requires_grad == (learned or config['type'] is WLSRatio)
    if kd.requires_grad:
        leaf = weighter.values if learned else k.student
        by_kd, by_ce = (
            torch.autograd.grad(each.sum(), leaf, retain_graph=True)[0] for each in (kd, ce)
        )
        assert by_kd.abs().sum() > 0 and torch.allclose(by_kd, -by_ce)
    if learned:
        with pytest.raises(RuntimeError, match='not have been used'):
            torch.autograd.grad(weighter(k)[0].sum(), k.student)


@pytest.mark.parametrize('config', ALL, ids=IDS)
def test_the_student_is_trained_as_with_constants_but_for_one(config):
    weighter, k = MODELS.build(config), knowledge()
    found = torch.autograd.grad(training_loss(weighter, k), k.student)[0]
    constants = tuple(each.detach() for each in weighter(k))
    expected = torch.autograd.grad(training_loss(lambda k: constants, k), k.student)[0]
    same = torch.allclose(found, expected, rtol=1e-12)
    assert same == (config['type'] is not WLSRatio)


def test_the_base_says_nothing():
    assert not SampleWeighter.needs_index and SampleWeighter.learned is None
    with pytest.raises(NotImplementedError):
        SampleWeighter()(knowledge())


def test_constant():
    k = knowledge(dtype=torch.bfloat16)
    kd, ce = ConstantWeighter()(k)
    assert kd.tolist() == pytest.approx([0.9] * 6, abs=1e-6)
    assert ce.tolist() == pytest.approx([0.1] * 6, abs=1e-6)
    k = knowledge()
    labels = torch.nn.functional.cross_entropy(k.student, k.labels)
    assert torch.equal(training_loss(ConstantWeighter(0), k), labels)
    teacher = distillation_per_sample(k.student, k.teacher, 4.0).mean()
    assert torch.equal(training_loss(ConstantWeighter(1), k), teacher)
    for wrong in (-0.1, 1.5):
        with pytest.raises(UserError, match=rf'ratio is in \[0, 1\], got {wrong}'):
            ConstantWeighter(wrong)


def test_annealing_goes_from_the_teacher_to_the_labels():
    for progress, ratio in ((0, 1), (0.25, 0.75), (0.5, 0.5), (1, 0), (1.01, 0)):
        kd, ce = AnnealingWeighter()(knowledge(progress=progress))
        assert kd.tolist() == [ratio] * 6 and ce.tolist() == [1 - ratio] * 6


def test_ada_is_the_lead_of_the_label_over_the_mean_of_the_others():
    k = knowledge(batch=40)
    found = ADAWeighter()(k)[0]
    p = k.teacher.softmax(1)
    mask = torch.nn.functional.one_hot(k.labels, 5).bool()
    lead = p[mask] - p[~mask].view(40, 4).mean(1)
    assert torch.allclose(found, lead.relu(), rtol=1e-12)
    assert (lead < 0).any() and (lead > 0).any() and found.max() <= 1


def test_ada_of_teachers_by_hand():
    p = torch.tensor([[1, 0, 0], [0, 1, 0], [1 / 3] * 3, [0.5, 0.2, 0.3], [0.2, 0.2, 0.6]])
    k = Knowledge(torch.zeros(5, 3), p.clamp(min=1e-30).log(), torch.zeros(5).long(), 4.0)
    # 0.5 - 0.5 / 2 and max(0, 0.2 - 0.8 / 2); the temperature of the distillation is not used
    assert ADAWeighter()(k)[0].tolist() == pytest.approx([1, 0, 0, 0.25, 0], abs=1e-6)


def test_wsld_by_hand():
    # CE of the student log 4, of the teacher log 2: w = 1 - exp(-2)
    rows = torch.tensor([[1, 1, 2], [2, 1, 1]]).double().log()
    k = Knowledge(rows[:1], rows[1:], torch.tensor([0]), 4.0)
    w = 1 - math.exp(-2)
    assert WSLD()(k)[0].item() == pytest.approx(2.25 * w, rel=1e-6)
    assert WSLD(scale=2.5)(k)[0].item() == pytest.approx(2.5 * w, rel=1e-6)
    assert WSLD()(k)[1].item() == 1
    assert [each.item() for each in WLSRatio()(k)] == pytest.approx([w, 1 - w], rel=1e-6)


def test_wsld_has_the_gradient_of_the_published_loss():
    k, t = knowledge(), 4.0
    found = torch.autograd.grad(training_loss(WSLD(), k), k.student)[0]
    log_p = k.student - k.student.exp().sum(1, keepdim=True).log()
    log_t = k.teacher - k.teacher.exp().sum(1, keepdim=True).log()
    mine, theirs = (-each[torch.arange(6), k.labels] for each in (log_p, log_t))
    soft = (k.teacher / t).exp() / (k.teacher / t).exp().sum(1, keepdim=True)
    log_soft = k.student / t - (k.student / t).exp().sum(1, keepdim=True).log()
    w = 1 - (-mine.detach() / (theirs + 1e-7)).exp()
    loss = mine.mean() + 2.25 * t**2 * (w * -(soft * log_soft).sum(1)).mean()
    expected = torch.autograd.grad(loss, k.student)[0]
    assert torch.allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize('weighter', [WSLD(scale=1), WLSRatio()])
def test_weights_of_sure_networks_stay_in_range(weighter):
    sure = torch.tensor([[60.0, 0], [0, 60]])
    mine, theirs = sure[[0, 0, 1, 1]].requires_grad_(), sure[[0, 1, 0, 1]]
    k = Knowledge(mine, theirs, torch.zeros(4).long(), 4.0)
    w = weighter(k)[0]
    # both right: no need; student right; teacher right; both wrong
    assert w.tolist() == pytest.approx([0, 0, 1, 1 - math.exp(-1)], abs=1e-6)
    assert w.min() >= 0 and w.max() <= 1
    assert torch.autograd.grad(training_loss(weighter, k), mine)[0].isfinite().all()


def test_wls_ratio_also_trains_the_student_to_be_worse():
    k = knowledge()
    by_ratio = torch.autograd.grad(WLSRatio()(k)[0].sum(), k.student)[0]
    by_loss = torch.autograd.grad(cross_entropy_per_sample(k.student, k.labels).sum(), k.student)[0]
    # w grows with the student's own loss, sample by sample
    assert (torch.nn.functional.cosine_similarity(by_ratio, by_loss) > 1 - 1e-9).all()


@pytest.mark.parametrize('bounded', [True, False])
def test_free_ratios_belong_to_samples(bounded):
    weighter, k = FreeRatio(9, start=0.3, bounded=bounded), knowledge()
    assert weighter(k)[0].tolist() == pytest.approx([0.3] * 6, abs=1e-6)
    assert [each.shape for each in weighter.parameters()] == [(9,)]
    kd, ce = weighter(k)
    by_ratio = torch.randn(6)
    kd.backward(by_ratio)
    slope = 0.3 * 0.7 if bounded else 1.0
    expected = torch.zeros(9)
    expected[k.index] = slope * by_ratio
    assert torch.allclose(weighter.values.grad, expected, atol=1e-6)
    with torch.no_grad():
        weighter.values += 50 * torch.sign(torch.arange(9) - 4.5)
    kd, ce = weighter(k)
    assert bool((kd >= 0).all() and (kd <= 1).all()) is bounded
    assert torch.allclose(ce, 1 - kd)


def test_learned_by_the_training_loss_free_ratios_choose_the_smaller_loss():
    weighter, k = FreeRatio(9), knowledge()
    training_loss(weighter, k).backward()
    kd = distillation_per_sample(k.student, k.teacher, 4.0)
    ce = cross_entropy_per_sample(k.student, k.labels)
    assert torch.equal(weighter.values.grad[k.index] > 0, kd > ce)
    assert 0 < (kd > ce).sum() < 6


def test_free_ratios_say_what_is_wrong():
    assert (FreeRatio(3).learned, FreeRatio(3, 'meta').learned) == ('training', 'meta')
    with pytest.raises(UserError, match=r'mmkd\.IndexedDataset'):
        FreeRatio(9)(knowledge(index=None))
    with pytest.raises(UserError, match=r'num_samples=5.* sample of index 8.*length of the'):
        FreeRatio(5)(knowledge(index=torch.tensor([0, 8, 1, 2, 3, 4])))
    with pytest.raises(UserError, match="learned is 'training' or 'meta', got 'joint'"):
        FreeRatio(5, learned='joint')
    for start in (0, 1, 1.2):
        with pytest.raises(UserError, match=rf'start is in \(0, 1\), got {start}'):
            FreeRatio(5, start=start)
    assert FreeRatio(5, start=1.5, bounded=False).values.tolist() == [1.5] * 5
