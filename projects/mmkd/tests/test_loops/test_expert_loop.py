"""Experts by a config: one command makes the store, goes on, and shares it among processes."""

import copy
import multiprocessing
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.runner import Runner

import mmkd.components  # noqa: F401
from mmdistill.core.errors import UserError
from mmdistill.core.launch import read_config
from mmdistill.testing import captured_log
from mmkd.experts.store import TrajectoryStore
from mmkd.experts.training import ExpertRecipe, ExpertTrainer
from mmkd.loops.experts import ExpertTrainLoop, sgd_settings
from mmkd.registry import DATASETS

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'datm' / 'experts_convnet_digits.py'


def config(work_dir, **train):
    """The config with two small experts of two epochs."""
    cfg = read_config(CONFIG)
    cfg.work_dir, cfg.experiment_name = str(work_dir), work_dir.name
    cfg.model.network.update(width=4, depth=1)
    cfg.train_dataloader.batch_size = 300
    cfg.train_cfg.update(experts=2, epochs=2, **train)
    return cfg


def train(work_dir, **options):
    """Runs the config; the lines of its log."""
    runner = Runner.from_cfg(config(work_dir, **options))
    before = copy.deepcopy(runner.model.state_dict())
    with captured_log() as lines:
        assert runner.train() is runner.model
    assert all(torch.equal(before[k], v) for k, v in runner.model.state_dict().items())
    return lines


def arrays(folder):
    """Arrays of a store as bytes."""
    return {path.name: path.read_bytes() for path in (folder / 'trajectories').glob('*.npy')}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A finished run: its folder and its log."""
    folder = tmp_path_factory.mktemp('whole')
    return folder, train(folder)


def test_the_config_makes_a_store_with_its_settings(whole):
    folder, lines = whole
    cfg, store = config(folder), TrajectoryStore.open(folder / 'trajectories')
    assert store.finished() == [0, 1] and (store.experts, store.epochs) == (2, 2)
    data = DATASETS.build(cfg.train_dataloader.dataset)
    recipe = ExpertRecipe(
        cfg.model.network.to_dict(), epochs=2, batch_size=300, lr=0.05, rho=0.01, alpha=0.3, seed=0
    )
    TrajectoryStore.open(folder / 'trajectories', recipe.about(data.digest))
    trainer = ExpertTrainer(recipe, data.images, data.labels)
    held_out = DATASETS.build(cfg.real_held_out)
    for expert in range(2):
        theta, buffers = trainer.initial(expert)
        for epoch in range(2):
            theta, buffers, _ = trainer.epoch(expert, epoch, theta, buffers)
        assert torch.equal(store.snapshot(expert, 2)[0], theta)
        score = trainer.accuracy(theta, buffers, held_out.images, held_out.labels)
        assert store.score(expert, 2) == pytest.approx(score)
        assert any(f'expert {expert} is finished, accuracy {score:.1f}' in each for each in lines)
    assert any('2 of 2 experts are finished' in each for each in lines)
    # the model is not what was trained, so no checkpoint pretends so
    assert not list(folder.rglob('*.pth'))


def test_the_same_command_does_nothing_more(whole):
    folder, _ = whole
    before = arrays(folder)
    lines = train(folder)
    assert not any('is finished' in each for each in lines)
    assert any('2 of 2 experts are finished' in each for each in lines)
    assert arrays(folder) == before


def test_the_same_command_goes_on(whole, tmp_path, monkeypatch):
    epoch, seen = ExpertTrainer.epoch, []

    def noted(self, *args):
        seen.append(args[:2])
        if len(seen) == 4:
            raise KeyboardInterrupt
        return epoch(self, *args)

    monkeypatch.setattr(ExpertTrainer, 'epoch', noted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert TrajectoryStore.open(tmp_path / 'trajectories').finished() == [0]
    train(tmp_path)
    assert seen == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 1)]
    assert arrays(tmp_path) == arrays(whole[0])


def test_processes_make_the_same_store(whole, tmp_path, monkeypatch):
    kinds, jobs = [], []
    # a forked process begins at once; autograd of one fails where its parent has used a GPU
    start = multiprocessing.get_context('spawn' if torch.cuda.is_available() else 'fork')

    def process(target, args, **rest):
        jobs.append(pickle.dumps((target, args)))
        return start.Process(target=target, args=args, **rest)

    def context(kind):
        kinds.append(kind)
        return SimpleNamespace(Process=process)

    with monkeypatch.context() as patched:
        patched.setattr(torch.multiprocessing, 'get_context', context)
        lines = train(tmp_path, processes=2)
    assert kinds == ['spawn'] and len(jobs) == 2
    assert any('2 of 2 experts are finished' in each for each in lines)
    assert arrays(tmp_path) == arrays(whole[0])
    # what a process is given can be sent to it, and is all that it needs
    target, args = pickle.loads(jobs[0])
    before = torch.get_num_threads()
    (folder := tmp_path / 'trajectories').rename(tmp_path / 'first')
    try:
        target(*args)
    finally:
        torch.set_num_threads(before)
    assert (folder / 'theta.npy').read_bytes() == (tmp_path / 'first/theta.npy').read_bytes()


def test_several_at_once_make_nearly_the_same_store(whole, tmp_path):
    train(tmp_path, mode='vmap', together=2)
    found, wanted = (np.load(each / 'trajectories' / 'theta.npy') for each in (tmp_path, whole[0]))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_experts_of_others_are_named_and_not_waited_for(tmp_path):
    runner = Runner.from_cfg(config(tmp_path / 'work', folder=str(tmp_path / 'shared')))
    make = ExpertTrainLoop._work

    def work(self, device):
        data = self.dataloader.dataset
        flat = ExpertTrainer(self.recipe, data.images, data.labels).network
        about, shape = self.recipe.about(data.digest), (2, 2, flat.size, 0, flat.names, flat.shapes)
        store = TrajectoryStore.create_or_open(self.folder, about, *shape)
        with store.claim(0):
            make(self, device)

    runner.train_loop._work = work.__get__(runner.train_loop)
    with captured_log() as lines:
        runner.train()
    assert any('1 of 2 experts are finished; other processes are at [0]' in each for each in lines)
    assert TrajectoryStore.open(tmp_path / 'shared').finished() == [1]
    assert not (tmp_path / 'work' / 'trajectories').exists()


def loop(dataset=None, optimizer=None, **options):
    """A loop of a runner that is none."""
    cfg = ConfigDict(
        model=dict(network=dict(type='mmkd.CondensationNet')),
        optim_wrapper=dict(optimizer=optimizer or dict(type='SGD', lr=0.1)),
    )
    runner = SimpleNamespace(cfg=cfg, seed=3, work_dir='somewhere')
    data = dataset or torch.utils.data.DataLoader(prepared(), batch_size=5)
    return ExpertTrainLoop(runner, data, **{**dict(experts=2, epochs=4), **options})


def prepared():
    """The images to train with."""
    return DATASETS.build(dict(type='mmkd.PreparedImages', dataset=digits()))


def digits():
    """Images that are not prepared."""
    return DATASETS.build(dict(type='mmkd.DigitsDataset', split='test'))


def test_the_recipe_is_that_of_the_config():
    augment = dict(type='mmkd.DSA', families='crop')
    optimizer = dict(type='SGD', lr=0.2, momentum=0.5, weight_decay=0.1)
    made = loop(None, optimizer, rho=0.1, alpha=0.2, adaptive=False, augment=augment, together=5)
    assert made.recipe == ExpertRecipe(
        dict(type='mmkd.CondensationNet'), 4, 5, 0.2, 0.5, 0.1, 0.1, 0.2, False, augment, 3
    )
    assert made.folder == Path('somewhere', 'trajectories') and made.together == 1
    assert (made.max_epochs, made.max_iters, made.epoch, made.iter) == (4, 4, 0, 0)
    assert loop(mode='vmap', together=5).together == 5
    assert loop(folder='here').folder == Path('here')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(optimizer=dict(type='Adam', lr=0.1)), 'trained by SGD with lr, momentum, .*got Adam'),
        (dict(optimizer=dict(type='SGD', lr=0.1, nesterov=True)), 'got SGD with nesterov'),
        (dict(optimizer=dict(type='SGD', momentum=0.9)), r'\blr\b'),
        (dict(mode='batch'), "mode 'batch' is none of loop, vmap"),
        (dict(experts=0), 'experts must be at least 1, got 0'),
        (dict(epochs=0), 'epochs must be at least 1, got 0'),
        (dict(together=0), 'together must be at least 1, got 0'),
        (dict(processes=0), 'processes must be at least 1, got 0'),
    ],
)
def test_wrong_settings_say_so(options, message):
    with pytest.raises(UserError, match=message):
        loop(**options)


def test_other_data_say_so(tmp_path):
    cfg = config(tmp_path)
    cfg.train_dataloader.dataset = dict(type='mmkd.DigitsDataset', split='train')
    with pytest.raises(UserError, match='needs dataset=.*PreparedImages.*, got DigitsDataset'):
        Runner.from_cfg(cfg).train()


def test_settings_of_the_optimizer():
    assert sgd_settings(ConfigDict(type='SGD', lr=0.1)) == dict(lr=0.1)
    given = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)
    assert sgd_settings(given) == dict(lr=0.1, momentum=0.9, weight_decay=1e-4)
    assert 'type' in given


def test_a_process_that_fails_is_reported(monkeypatch):
    class Process:
        exitcode = 1

        def __init__(self, **_):
            self.start = self.join = lambda: None

    made = loop(processes=2)
    made.runner.model = torch.nn.Linear(1, 1)
    monkeypatch.setattr(
        torch.multiprocessing, 'get_context', lambda _: SimpleNamespace(Process=Process)
    )
    with pytest.raises(UserError, match=r'2 of 2 processes ended with \[1, 1\]'):
        made._in_processes()
