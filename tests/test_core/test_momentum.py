"""Momentum: functions of the step with the numbers of the papers."""

import pytest

from mmdistill.core.momentum import ConstantMomentum, InverseMomentum, LinearRampMomentum
from mmdistill.registry import TASK_UTILS


def test_hssda_ramp():
    keep = LinearRampMomentum()
    assert keep(0) == 0.5
    assert keep(1000) == pytest.approx(0.7498, abs=1e-12)
    assert keep(1999) == pytest.approx(0.9996 - 0.4996 / 2000)
    assert keep(2000) == keep(10**9) == 0.9996
    values = [keep(step) for step in range(2500)]
    assert values == sorted(values)


def test_keep_is_a_function_of_the_step():
    """A hook built anew in the middle gets what the old one would have got."""
    first, second = LinearRampMomentum(), LinearRampMomentum()
    for step in range(700):
        first(step)
    assert first(700) == second(700)


def test_ramp_as_a_fraction_of_the_training():
    part = LinearRampMomentum(ramp_fraction=0.25, max_iters=400)
    whole = LinearRampMomentum(ramp_iters=100)
    assert all(part(step) == whole(step) for step in range(0, 500, 7))


def test_ramp_down_and_no_ramp():
    down = LinearRampMomentum(keep_init=1.0, keep_final=0.5, ramp_iters=10)
    assert down(0) == 1 and down(5) == 0.75 and down(10) == 0.5
    assert LinearRampMomentum(ramp_iters=0)(0) == 0.9996


def test_constant():
    keep = ConstantMomentum(0.99)
    assert keep(0) == keep(12345) == 0.99


def test_inverse_is_the_running_mean():
    """With keep = 1 - 1/(t+1) the teacher is the mean of all students so far."""
    keep, teacher, students = InverseMomentum(keep_final=1.0), 100.0, [3.0, -1.0, 4.0, 10.0]
    for step, student in enumerate(students):
        teacher = keep(step) * teacher + (1 - keep(step)) * student
    assert teacher == pytest.approx(sum(students) / len(students))
    assert InverseMomentum()(10**6) == 0.999


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda: ConstantMomentum(1.01), 'keep'),
        (lambda: LinearRampMomentum(keep_init=-0.1), 'keep_init'),
        (lambda: InverseMomentum(keep_final=2), 'keep_final'),
        (lambda: LinearRampMomentum(ramp_fraction=0.5), 'max_iters'),
        (lambda: LinearRampMomentum(ramp_fraction=1.5, max_iters=10), 'ramp_fraction'),
    ],
)
def test_errors_name_the_value(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_registered():
    keep = TASK_UTILS.build(dict(type='mmdistill.LinearRampMomentum', keep_init=0.2, ramp_iters=10))
    assert keep(0) == 0.2
