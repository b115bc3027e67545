"""Held-out batches beside the others: when, which, from where, and the same after a resume."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

import mmkd.components  # noqa: F401
from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.core.launch import read_config
from mmdistill.testing import assert_same_state, state_differences
from mmdistill.testing.resume_check import run, training_state
from mmkd.datasets.subsets import SplitDataset
from mmkd.loops.meta import check_disjoint
from mmkd.registry import DATASETS

SMOKE = Path(__file__).resolve().parents[2] / 'configs' / 'tgeo_kd' / 'tgeo_smoke.py'


class Notes(Hook):
    """Batches, weights and the state of the weighter by iteration; may stop early."""

    priority = 'LOWEST'

    def __init__(self, stop=None):
        self.stop = stop
        self.train, self.meta, self.weighing, self.weighters, self.weights = [], [], [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        assert set(data_batch) == {'train', 'meta'}
        for kind, seen in (('train', self.train), ('meta', self.meta)):
            batch = data_batch[kind]
            seen.append(None if batch is None else batch['inputs']['numeric'].clone())
        self.weighing.append(bare_model(runner).weighing)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.weighters.append(copy.deepcopy(bare_model(runner).weighter.state_dict()))
        self.weights.append(float(outputs['kd/weight']))
        if runner.iter + 1 == self.stop:
            runner.train_loop.stop_training = True


def config(folder, iters=12, **train_cfg):
    """The short training, with dropout so that random numbers count."""
    cfg = read_config(SMOKE)
    cfg.work_dir = str(folder)
    cfg.train_cfg.update(max_iters=iters, val_interval=100, **train_cfg)
    cfg.model.student.dropout = 0.2
    cfg.default_hooks.checkpoint.interval = 3
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.custom_hooks = [h for h in cfg.custom_hooks if h.type != 'mmkd.RatioRecordHook']
    return cfg


def trained(cfg, **options):
    """Notes of a run."""
    notes = Notes(**options)
    assert run(cfg.to_dict(), notes) == 0
    return notes


def changes(states):
    """In which iterations, counted from 1, the weighter moved (the first one is not known)."""
    pairs = zip(states, states[1:], strict=False)
    return [n for n, pair in enumerate(pairs, 2) if state_differences(*pair)]


# ------------------------------------------------------------------ when


@pytest.mark.parametrize(
    ('iters', 'interval', 'begin', 'at'),
    [(12, 2, 2, [4, 6, 8, 10, 12]), (11, 3, 1, [4, 7, 10]), (9, 20, 0, []), (7, 2, 5, [7])],
)
def test_every_so_many_iterations_from_the_begin(iters, interval, begin, at, tmp_path):
    notes = trained(config(tmp_path, iters, meta_interval=interval, meta_begin=begin))
    due = [n for n, each in enumerate(notes.meta, 1) if each is not None]
    assert due == at == changes(notes.weighters) and len(at) == (iters - begin) // interval
    assert notes.weighing == [n >= begin for n in range(iters)]
    # until then all have the ratio of the start
    assert notes.weights[:begin] == [0.5] * begin
    assert all(abs(each - 0.5) > 1e-6 for each in notes.weights[begin:])


def test_an_iteration_each(tmp_path):
    notes = trained(config(tmp_path, 4, meta_interval=1, meta_begin=0))
    assert all(each is not None for each in notes.meta) and changes(notes.weighters) == [2, 3, 4]


# ------------------------------------------------------------------ which


def rows(loader):
    """All samples of a data set of a config, as a set."""
    data = DATASETS.build(loader.dataset)
    return {tuple(data[n]['inputs']['numeric'].tolist()) for n in range(len(data))}


def test_held_out_batches_are_held_out(tmp_path):
    cfg = config(tmp_path)
    notes = trained(cfg)
    held_out, train = rows(cfg.train_cfg.meta_dataloader), rows(cfg.train_dataloader)
    assert not held_out & train
    seen = [tuple(row) for each in notes.meta if each is not None for row in each.tolist()]
    assert set(seen) <= held_out and len(set(seen[: len(held_out)])) == min(
        len(held_out), len(seen)
    )
    assert {tuple(row) for each in notes.train for row in each.tolist()} <= train


def test_without_a_loader_the_batch_itself(tmp_path):
    cfg = config(tmp_path, 4, meta_interval=2, meta_begin=0)
    cfg.train_cfg.meta_dataloader = None
    notes = trained(cfg)
    for train, meta in zip(notes.train[1::2], notes.meta[1::2], strict=True):
        assert torch.equal(train, meta)
    assert notes.meta[0] is None


# ------------------------------------------------------------------ resume


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The unbroken training."""
    folder = tmp_path_factory.mktemp('whole')
    return trained(config(folder)), training_state(folder / 'iter_12.pth')


# before the begin, between two held-out batches, right behind one
@pytest.mark.parametrize('cut', [3, 6, 9])
def test_resume_equals_never_having_stopped(cut, whole, tmp_path):
    notes, expected = whole
    first = trained(config(tmp_path), stop=cut)
    assert len(first.train) == cut
    cfg = config(tmp_path)
    cfg.resume = True
    rest = trained(cfg)
    assert len(rest.train) == 12 - cut
    for kind in ('train', 'meta', 'weighing', 'weights', 'weighters'):
        found = getattr(first, kind) + getattr(rest, kind)
        assert state_differences(found, getattr(notes, kind)) == [], kind
    state = training_state(tmp_path / 'iter_12.pth')
    assert set(state['optimizer']) == {'student', 'fusion'}
    assert all(each['state'] for each in state['optimizer'].values())
    assert any(name.startswith('weighter.') for name in state['state_dict'])
    assert_same_state(state, expected)


# ------------------------------------------------------------------ messages


def test_shared_samples_are_refused(tmp_path):
    cfg = config(tmp_path)
    cfg.train_cfg.meta_dataloader.dataset.part = 'train'
    with pytest.raises(UserError, match=r'\d+ samples are in train_dataloader and in meta_data'):
        trained(cfg)
    cfg = config(tmp_path)
    cfg.train_cfg.meta_dataloader.dataset.seed = 1
    with pytest.raises(UserError, match=r"the same share and seed, part='train' and part='meta'"):
        trained(cfg)


def test_parts_are_found_within_other_data_sets():
    given = dict(type='mmkd.DigitsDataset', split='train', flat=True)
    train, meta, other = (
        SplitDataset(dict(given), 0.1, seed, part)
        for seed, part in ((0, 'train'), (0, 'meta'), (1, 'meta'))
    )
    wrapped = DATASETS.build(dict(type='mmkd.IndexedDataset', dataset=train))
    check_disjoint(wrapped, meta)
    with pytest.raises(UserError, match='samples are in train_dataloader'):
        check_disjoint(wrapped, other)
    test = SplitDataset(dict(given, split='test'), 0.1, 1, 'meta')
    assert len(test.dataset) != len(train.dataset)
    check_disjoint(wrapped, test)
    whole = DATASETS.build(dict(type='mmkd.IndexedDataset', dataset=dict(given)))
    with pytest.raises(UserError, match='train_dataloader has all samples, those of meta_data'):
        check_disjoint(whole, meta)
    check_disjoint(whole, test)


class Nothing(torch.utils.data.Dataset):
    """No sample."""

    def __len__(self):
        """None."""
        return 0

    def __getitem__(self, index):
        """There is none."""
        raise IndexError


def test_settings_are_checked(tmp_path):
    for wrong in (dict(meta_interval=0), dict(meta_begin=-1)):
        with pytest.raises(UserError, match='meta_interval must be at least 1 and meta_begin at'):
            trained(config(tmp_path, **wrong))
    cfg = config(tmp_path).to_dict()
    cfg['train_cfg']['meta_dataloader']['dataset'] = Nothing()
    with pytest.raises(UserError, match='meta_dataloader has no samples: raise the share'):
        run(cfg)
