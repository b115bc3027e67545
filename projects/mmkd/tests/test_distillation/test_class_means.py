"""The teacher's means by class, and the record of ratios: what they are, and what they leave."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import mmkd.components  # noqa: F401
from mmdistill.core.errors import UserError
from mmdistill.core.launch import read_config
from mmdistill.core.rng import rng_state
from mmdistill.testing import assert_same_state
from mmdistill.testing.resume_check import run, training_state
from mmkd.datasets.subsets import SplitDataset, unchanged
from mmkd.distillation.distiller import Distiller
from mmkd.distillation.hooks import COLUMNS, ClassMeanHook, class_means, recorded_ratios
from mmkd.distillation.knowledge import cross_entropy_per_sample, distillation_per_sample
from mmkd.distillation.ratio_plot import draw_ratios, four_groups, read_records
from mmkd.distillation.weighters.constant import ConstantWeighter
from mmkd.distillation.weighters.tgeo_kd import TGeoKD
from mmkd.models.frozen_teacher import FrozenTeacher
from mmkd.models.tabular import TabularMLP
from mmkd.registry import DATASETS

SMOKE = Path(__file__).resolve().parents[2] / 'configs' / 'tgeo_kd' / 'tgeo_smoke.py'
CLASSES = 5


class Noisy(Dataset):
    """Rows that get noise each time they are read; class 3 has no sample."""

    changes_samples = True

    def __init__(self, size=23):
        numbers = torch.Generator().manual_seed(0)
        self.rows = torch.randn(size, 6, generator=numbers)
        self.labels = torch.tensor([0, 1, 2, 4])[torch.randint(4, (size,), generator=numbers)]

    def unchanged(self):
        """Without noise."""
        same = copy.copy(self)
        same.changes_samples = False
        return same

    def __len__(self):
        """Number of rows."""
        return len(self.rows)

    def __getitem__(self, index):
        """A row."""
        noise = torch.randn(6) if self.changes_samples else 0
        return dict(inputs=dict(numeric=self.rows[index] + noise), labels=self.labels[index])


def teacher():
    """Random."""
    torch.manual_seed(1)
    return FrozenTeacher(TabularMLP(6, (8,), CLASSES, dropout=0.5))


def means(dataset, batch_size=4, **options):
    """With torch's own collation."""
    collate = torch.utils.data.default_collate
    return class_means(teacher(), dataset, collate, CLASSES, batch_size, **options)


# ------------------------------------------------------------------ class means


@pytest.mark.parametrize('batch_size', [1, 4, 23, 100])
@pytest.mark.parametrize('temperature', [1.0, 2.0])
def test_equal_to_means_one_by_one(batch_size, temperature):
    data = Noisy().unchanged()
    found, counts = means(data, batch_size, temperature=temperature)
    network = teacher().network
    for number in range(CLASSES):
        rows = data.rows[data.labels == number]
        assert counts[number] == len(rows)
        if not len(rows):
            assert number == 3 and torch.equal(found[3], torch.full((5,), 0.2))
            continue
        with torch.no_grad():
            singles = [(network(row[None]).logits[0] / temperature).softmax(0) for row in rows]
        assert torch.allclose(found[number], torch.stack(singles).mean(0), atol=1e-6)
    assert torch.allclose(found.sum(1), torch.ones(5), atol=1e-6)
    assert found.dtype == torch.float32 and counts.dtype == torch.int64


def test_no_random_number_is_drawn_and_none_matters():
    found = []
    for seed in (0, 1):
        data, network = unchanged(Noisy()), teacher()
        torch.manual_seed(seed)
        before = rng_state()
        found.append(class_means(network, data, torch.utils.data.default_collate, CLASSES, 4))
        assert_same_state(before, rng_state())
    assert_same_state(*map(list, found))
    torch.manual_seed(0)
    assert not torch.allclose(means(Noisy())[0], found[0][0], atol=1e-3)


class Stub:
    """What the hook reads of a runner."""

    def __init__(self, dataset, weighter=None):
        torch.manual_seed(0)
        weighter = weighter or TGeoKD(CLASSES)
        self.model = Distiller(TabularMLP(6, (4,), CLASSES), teacher().network, weighter)
        self.model.progress = 0.0
        self.train_dataloader = torch.utils.data.DataLoader(dataset, 4)


def test_the_hook_reads_training_samples_alone_and_without_augmentation():
    data = Noisy()
    train, meta = (SplitDataset(data, 0.3, part=each) for each in ('train', 'meta'))
    runner = Stub(train)
    torch.manual_seed(11)
    ClassMeanHook(batch_size=3).before_train(runner)
    rows = torch.from_numpy(train.indices)
    expected = torch.stack(
        [
            teacher()(dict(numeric=data.rows[rows][data.labels[rows] == number])).logits
            .softmax(1).mean(0)
            for number in (0, 1, 2, 4)
        ]
    )  # fmt: skip
    found = runner.model.class_mean
    assert torch.allclose(found[[0, 1, 2, 4]], expected, atol=1e-6)
    assert int(runner.model.class_count.sum()) == len(train)
    data.rows[meta.indices] += 100.0  # what is held out has no part in it
    other = Stub(train)
    torch.manual_seed(12)
    ClassMeanHook().before_train(other)
    assert torch.allclose(other.model.class_mean, found, atol=1e-6)
    data.rows[train.indices] += 100.0
    other = Stub(train)
    ClassMeanHook().before_train(other)
    assert not torch.allclose(other.model.class_mean, found, atol=1e-3)


def test_means_that_are_there_stay():
    runner = Stub(Noisy())
    assert torch.equal(runner.model.class_mean, torch.full((5, 5), 0.2))
    runner.model.class_mean.fill_(0.5)
    runner.model.class_count.fill_(1)
    ClassMeanHook().before_train(runner)
    assert runner.model.class_mean.unique().tolist() == [0.5]
    assert {'class_mean', 'class_count'} < set(runner.model.state_dict())


def test_a_rule_without_means_needs_no_hook():
    runner = Stub(Noisy(), ConstantWeighter())
    with pytest.raises(UserError, match='the weighter of this Distiller reads no class means'):
        ClassMeanHook().before_train(runner)


def test_the_temperature_of_the_features_is_that_of_the_means():
    runner = Stub(Noisy(), TGeoKD(CLASSES, feature_temperature=2.0))
    ClassMeanHook().before_train(runner)
    expected = means(unchanged(Noisy()), temperature=2.0)[0]
    assert torch.allclose(runner.model.class_mean, expected, atol=1e-6)


# ------------------------------------------------------------------ the record


def test_records_are_those_of_the_evaluated_student():
    data = Noisy().unchanged()
    runner = Stub(data)
    model = runner.model.train()
    model.student.stage1.append(nn.Dropout(0.5))
    model.weighter.eval()
    modes = [each.training for each in model.modules()]
    state, numbers = copy.deepcopy(dict(model.state_dict())), rng_state()
    collate = torch.utils.data.default_collate
    found = recorded_ratios(model, data, collate, 4)
    assert_same_state(numbers, rng_state())
    assert_same_state(state, dict(model.state_dict()))
    assert [each.training for each in model.modules()] == modes
    assert tuple(found) == COLUMNS
    model.eval()
    with torch.no_grad():
        k = model.knowledge(dict(numeric=data.rows), data.labels)
        s, t = k.student.softmax(1), k.teacher.softmax(1)
        expected = dict(
            ratio=model.weighter(k)[0],
            distillation=distillation_per_sample(k.student, k.teacher, 4.0),
            labels=cross_entropy_per_sample(k.student, k.labels),
            teacher_right=t.argmax(1) == k.labels,
            student_right=s.argmax(1) == k.labels,
            distance=(s - t).square().sum(1).sqrt(),
        )
    for name, values in expected.items():
        assert found[name].shape == (23,)
        assert np.allclose(found[name], values.numpy(), atol=1e-5), name


def record(size=40, seed=0):
    """Random."""
    draw = np.random.default_rng(seed)
    found = dict(ratio=draw.random(size), distance=draw.random(size))
    return dict(found, teacher_right=draw.random(size) < 0.7, index=np.arange(size))


def test_four_groups_divide_the_samples():
    found = record()
    groups = four_groups(found)
    assert len(groups) == 4 and (sum(each.astype(int) for each in groups.values()) == 1).all()
    wrong_far = groups['teacher wrong, far']
    assert not found['teacher_right'][wrong_far].any()
    assert found['distance'][wrong_far].min() > np.median(found['distance'])
    far = groups['teacher right, far'] | wrong_far
    assert far.sum() == 20


def test_a_picture_of_the_records(tmp_path):
    with pytest.raises(UserError, match=r'there is no iter_N\.npz; RatioRecordHook writes them'):
        read_records(tmp_path)
    for number in (100, 20, 3):
        np.savez(tmp_path / f'iter_{number}.npz', **record(seed=number))
    assert list(read_records(tmp_path)) == [3, 20, 100]
    draw_ratios(tmp_path, tmp_path / 'ratios.png')
    picture = (tmp_path / 'ratios.png').read_bytes()
    assert picture[:4] == b'\x89PNG' and len(picture) > 10_000


def test_a_run_is_the_same_with_records_and_without(tmp_path):
    finals = []
    for name, kept in (('with', True), ('without', False)):
        cfg = read_config(SMOKE)
        cfg.work_dir = str(tmp_path / name)
        cfg.train_cfg.max_iters = 6
        cfg.model.student.dropout = 0.2
        if not kept:
            cfg.custom_hooks = [h for h in cfg.custom_hooks if h.type != 'mmkd.RatioRecordHook']
        cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
        assert run(cfg.to_dict()) == 0
        finals.append(training_state(tmp_path / name / 'iter_6.pth'))
    for each in finals:
        each.pop('history')
    assert_same_state(*finals)
    records = read_records(tmp_path / 'with' / 'ratios')
    assert list(records) == [4, 6] and (tmp_path / 'with' / 'ratios.png').is_file()
    data = DATASETS.build(cfg.train_dataloader.dataset)
    assert records[6]['index'].tolist() == records[4]['index'].tolist()
    assert records[6]['index'].max() == len(data) - 1 and len(records[6]['ratio']) == 100
    assert not np.array_equal(records[6]['ratio'], records[4]['ratio'])
