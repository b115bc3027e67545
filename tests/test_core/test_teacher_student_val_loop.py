"""Both branches are evaluated, under their names, and nothing else changes."""

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.structures import BaseDataElement

from mmdistill.core.errors import UserError
from mmdistill.testing import (
    ToyDataset,
    ToyMetric,
    ToyModel,
    ToySemiModel,
    assert_same_state,
    cpu_ranks,
    run_gloo,
    toy_runner,
)


class Counter(Hook):
    """Counts validations and notes their metrics."""

    def __init__(self) -> None:
        self.calls, self.metrics = [], None

    def before_val(self, runner) -> None:
        self.calls.append('before')

    def after_val(self, runner) -> None:
        self.calls.append('after')

    def after_val_epoch(self, runner, metrics=None) -> None:
        self.metrics = metrics


class WithLoss(ToySemiModel):
    """Also returns a validation loss, as mmengine's loops allow."""

    def val_step(self, data) -> list:
        found = super().val_step(data)
        loss = torch.tensor(1.0 if self.predict_on == 'student' else 3.0)
        return [*found, BaseDataElement(loss=dict(loss_cls=loss))]


class Failing(BaseMetric):
    """Cannot be computed."""

    def process(self, data_batch, data_samples) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        raise RuntimeError('no ground truth')


def validating(folder, model, metric=ToyMetric, hooks=(), **settings):
    """A runner with a validation on 9 samples in batches of 4."""
    loop = dict(type='mmdistill.TeacherStudentValLoop', **settings.pop('loop', {}))
    return toy_runner(
        folder,
        model,
        hooks=hooks,
        val_dataloader=dict(
            dataset=ToyDataset(size=9),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
            batch_size=4,
        ),
        val_cfg=loop,
        val_evaluator=[metric()],
        **settings,
    )


def different(cls: type = ToySemiModel, predict_on: str = 'student'):
    """A model whose student always says class 0, and whose teacher says class 1."""
    model = cls(semi_test_cfg=dict(predict_on=predict_on))
    for name, label in (('student', 0), ('teacher', 1)):
        head = model.branch(name).head
        torch.nn.init.zeros_(head.weight)
        head.bias.data.copy_(torch.eye(3)[label])
    return model


def test_one_validation_with_the_metrics_of_both_branches(tmp_path):
    counter = Counter()
    runner = validating(tmp_path, different(), hooks=[counter])
    runner.model.student.head.bias.data.copy_(torch.tensor([0.0, 0.0, 1.0]))
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    metrics = runner.val()
    assert metrics == {
        'student/toy/accuracy': pytest.approx(100 / 3),
        'teacher/toy/accuracy': pytest.approx(100 / 3),
    }
    assert counter.calls == ['before', 'after']
    assert counter.metrics == metrics
    assert_same_state(runner.model.state_dict(), before)


@pytest.mark.parametrize('chosen', ['student', 'teacher'])
def test_each_branch_has_its_own_number_and_the_choice_is_restored(tmp_path, chosen):
    model = different(predict_on=chosen)
    runner = validating(tmp_path, model)
    labels = runner.val_dataloader.dataset.labels
    labels[:] = torch.tensor([0] * 6 + [1] * 2 + [2])
    metrics = runner.val()
    assert metrics['student/toy/accuracy'] == pytest.approx(600 / 9)
    assert metrics['teacher/toy/accuracy'] == pytest.approx(200 / 9)
    assert model.predict_on == chosen


@pytest.mark.parametrize('branches', [('teacher',), ('teacher', 'student')])
def test_branches_can_be_chosen(tmp_path, branches):
    metrics = validating(tmp_path, different(), loop=dict(branches=branches)).val()
    assert [name.split('/')[0] for name in metrics] == list(branches)


def test_validation_losses_belong_to_their_branch(tmp_path):
    metrics = validating(tmp_path, different(WithLoss)).val()
    losses = {name: value for name, value in metrics.items() if 'loss' in name}
    assert losses == {
        'student/loss_cls': 1,
        'student/val_loss': 1,
        'teacher/loss_cls': 3,
        'teacher/val_loss': 3,
    }


def test_choice_is_restored_after_a_failure(tmp_path):
    model = different(predict_on='teacher')
    with pytest.raises(RuntimeError, match='no ground truth'):
        validating(tmp_path, model, Failing).val()
    assert model.predict_on == 'teacher'


def test_wrong_use_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="branches must be of .*'mentor'"):
        validating(tmp_path, different(), loop=dict(branches=('mentor',))).val()
    with pytest.raises(UserError, match='needs a SemiModel, the model is a ToyModel'):
        validating(tmp_path, ToyModel()).val()


def validate_on_a_rank(rank: int, folder: str) -> dict:
    """Validates under DDP."""
    model = different()
    runner = validating(
        folder,
        model,
        **cpu_ranks(),
    )
    return dict(metrics=runner.val(), predict_on=model.predict_on)


def test_two_ranks(tmp_path):
    first, second = run_gloo(validate_on_a_rank, 2, str(tmp_path))
    assert first == second
    assert set(first['metrics']) == {'student/toy/accuracy', 'teacher/toy/accuracy'}
    assert first['predict_on'] == 'student'


class CountedDataset(ToyDataset):
    """Counts how often a sample is read."""

    reads = 0

    def __getitem__(self, index):
        type(self).reads += 1
        return super().__getitem__(index)


def test_the_data_are_read_once(tmp_path):
    runner = validating(tmp_path, ToySemiModel(ToyModel()))
    CountedDataset.reads = 0
    loop = runner.val_loop
    loop.dataloader.dataset.__class__ = CountedDataset
    metrics = loop.run()
    assert CountedDataset.reads == 9
    assert {name.split('/')[0] for name in metrics} == {'student', 'teacher'}


def test_a_branch_the_model_lacks_is_a_clear_error(tmp_path):
    runner = validating(tmp_path, ToySemiModel(ToyModel()), loop=dict(branches=['reviewer']))
    with pytest.raises(UserError, match="one of .'student', 'teacher'., got 'reviewer'"):
        runner.val_loop.run()
