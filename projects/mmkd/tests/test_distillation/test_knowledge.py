"""The two losses of every sample: ends, temperature, shapes, and sample by sample it stays."""

import math

import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.distillation.knowledge import (
    cross_entropy_per_sample,
    distillation_per_sample,
    per_sample,
)


def logits(batch=6, classes=5, seed=0):
    """Of student and teacher, with labels; 64 bits."""
    torch.manual_seed(seed)
    pair = (3 * torch.randn(2, batch, classes, dtype=torch.float64)).unbind()
    return *pair, torch.randint(classes, (batch,))


def combined(student, teacher, labels, temperature, ratio):
    """The training loss with a ratio per sample."""
    kd = distillation_per_sample(student, teacher, temperature)
    ce = cross_entropy_per_sample(student, labels)
    ratio = per_sample(ratio, len(labels), 'ratio')
    return (ratio * kd + (1 - ratio) * ce).mean()


def test_values_of_a_case_by_hand():
    student = torch.tensor([[1, 1, 2], [2, 2, 0.0]]).double().clamp(min=1e-300).log()
    teacher = torch.tensor([[2, 1, 1], [1, 1, 0.0]]).double().clamp(min=1e-300).log()
    # KL((1/2, 1/4, 1/4), (1/4, 1/4, 1/2)) = 1/2 log 2 - 1/4 log 2
    found = distillation_per_sample(student, teacher, 1.0)
    assert found.tolist() == pytest.approx([math.log(2) / 4, 0], abs=1e-12)
    labels = torch.tensor([2, 1])
    found = cross_entropy_per_sample(student, labels)
    assert found.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-12)


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_equal_to_sums_over_probabilities(temperature):
    student, teacher, _ = logits()
    p, q = ((each / temperature).exp() for each in (teacher, student))
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    expected = temperature**2 * (p * (p / q).log()).sum(1)
    found = distillation_per_sample(student, teacher, temperature)
    assert found.shape == (6,) and torch.allclose(found, expected, rtol=1e-12)
    assert (found > 0).all()


def test_ratio_0_is_the_labels_and_1_the_teacher():
    student, teacher, labels = logits()
    zero, one = torch.zeros(6).double(), torch.ones(6).double()
    ce = torch.nn.functional.cross_entropy(student, labels)
    assert torch.allclose(combined(student, teacher, labels, 4.0, zero), ce, rtol=1e-12)
    kd = distillation_per_sample(student, teacher, 4.0).mean()
    assert torch.equal(combined(student, teacher, labels, 4.0, one), kd)


def test_equal_logits_have_nothing_to_distil():
    student = logits()[0].requires_grad_()
    # a constant added to all classes changes nothing
    found = distillation_per_sample(student, student.detach() + 7, 4.0)
    assert found.abs().max() < 1e-12
    assert torch.autograd.grad(found.sum(), student)[0].abs().max() < 1e-12


def test_sure_and_right_costs_nothing():
    labels = torch.tensor([0, 3, 2])
    sure = 20 * torch.nn.functional.one_hot(labels, 5).float()
    assert cross_entropy_per_sample(sure, labels).max() < 1e-3


def test_the_gradient_hardly_depends_on_a_high_temperature():
    student, teacher, _ = logits()

    def gradient(temperature):
        leaf = student.clone().requires_grad_()
        loss = distillation_per_sample(leaf, teacher, temperature).sum()
        return torch.autograd.grad(loss, leaf)[0]

    centred = [each - each.mean(1, keepdim=True) for each in (student, teacher)]
    limit = (centred[0] - centred[1]) / 5
    for temperature, near in ((20.0, 0.2), (200.0, 0.02), (2000.0, 0.002)):
        assert (gradient(temperature) - limit).norm() < near * limit.norm()
    assert 0.8 < gradient(20.0).norm() / gradient(80.0).norm() < 1.25


def test_samples_and_classes_in_another_order():
    student, teacher, labels = logits()
    samples, classes = torch.randperm(6), torch.tensor([3, 0, 4, 1, 2])
    place = classes.argsort()
    moved = [each[samples][:, classes] for each in (student, teacher)]
    kd, ce = (
        distillation_per_sample(student, teacher, 3.0),
        cross_entropy_per_sample(student, labels),
    )
    assert torch.allclose(distillation_per_sample(*moved, 3.0), kd[samples], rtol=1e-12)
    found = cross_entropy_per_sample(moved[0], place[labels[samples]])
    assert torch.allclose(found, ce[samples], rtol=1e-12)


def test_a_ratio_per_sample_is_not_the_mean_ratio():
    student, teacher, labels = logits()
    ratio = torch.linspace(0, 1, 6).double()
    found = combined(student, teacher, labels, 4.0, ratio)
    one_by_one = [
        combined(student[n : n + 1], teacher[n : n + 1], labels[n : n + 1], 4.0, ratio[n : n + 1])
        for n in range(6)
    ]
    assert found == pytest.approx(sum(map(float, one_by_one)) / 6, rel=1e-12)
    mean = combined(student, teacher, labels, 4.0, ratio.mean().expand(6))
    assert abs(found - mean) > 0.03 * mean
    # what (B, 1) times (B,) would have made of it: exactly the mean ratio
    kd = distillation_per_sample(student, teacher, 4.0)
    ce = cross_entropy_per_sample(student, labels)
    wide = (ratio[:, None] * kd + (1 - ratio[:, None]) * ce).mean()
    assert wide == pytest.approx(float(mean), rel=1e-12)


@pytest.mark.parametrize('shape', [(6, 1), (1, 6), (), (5,)])
def test_another_shape_is_refused(shape):
    with pytest.raises(UserError, match=r'the ratio must have the shape \(6,\), got \('):
        per_sample(torch.zeros(shape), 6, 'the ratio')
    values = torch.rand(6)
    assert per_sample(values, 6, 'the ratio') is values
