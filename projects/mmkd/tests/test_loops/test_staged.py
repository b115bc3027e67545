"""A curriculum in one run: exact boundaries, its own schedule per stage, exact resume anywhere."""

import copy

import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import FUNCTIONS
from torch import nn

import mmkd.components  # noqa: F401
from mmdistill.core.errors import UserError
from mmdistill.testing import assert_same_state, toy_runner
from mmkd.language.curriculum import Curriculum
from mmkd.loops.staged import StagedTrainLoop, count_targets, within
from mmkd.registry import DATASETS, MODELS

READ = []


@DATASETS.register_module(name='StagedToyPacks')
class ToyPacks:
    """Sequences of different lengths, as packs: ``inputs`` (4, 3) and ``labels`` (4,)."""

    def __init__(self, seed, counts):
        self.seed, self.counts = seed, counts

    def count(self, epoch):
        return self.counts[epoch]

    def pack(self, epoch, number):
        READ.append((self.seed, epoch, number))
        draw = torch.Generator().manual_seed(1000 * self.seed + 100 * epoch + number)
        labels = torch.randint(0, 3, (4,), generator=draw)
        labels[: number % 2 + 1] = -100
        return dict(
            inputs=torch.randn(4, 3, generator=draw), labels=labels, key=self.key(epoch, number)
        )

    def key(self, epoch, number):
        return torch.tensor([self.seed, epoch, number])

    def empty(self):
        labels = torch.full((4,), -100)
        return dict(inputs=torch.zeros(4, 3), labels=labels, key=torch.tensor([-1, -1, -1]))


@MODELS.register_module(name='StagedToyModel')
class ToyLanguageModel(BaseModel):
    """A linear model of each token, with the loss that a language model has."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, inputs, labels, global_tokens, accumulate, mode='loss', **_):
        logits = self.head(inputs[:, :-1]).flatten(0, 1)
        total = nn.functional.cross_entropy(
            logits, labels[:, 1:].flatten(), ignore_index=-100, reduction='sum'
        )
        tokens = (labels[:, 1:] != -100).sum()
        return dict(loss=total * accumulate / global_tokens, tokens=tokens.float())


FUNCTIONS.register_module(name='staged_toy_collate', module=default_collate, force=True)
FIRST = [dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0.0, end=1.0)]
SECOND = [dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0.5, end=1.0)]


class Notes(Hook):
    """Rates, keys and parameters of each iteration, and the optimizer's counters."""

    def __init__(self):
        self.rates, self.keys, self.steps, self.states = [], [], [], []
        self.losses, self.tokens = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates.append(runner.optim_wrapper.get_lr()['lr'][0])
        self.keys.append([each['key'].tolist() for each in data_batch])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        found = runner.optim_wrapper.optimizer.state.values()
        self.steps.append({int(each['step']) for each in found})
        self.states.append(copy.deepcopy(runner.model.state_dict()))
        self.losses.append(float(outputs['loss']))
        self.tokens.append(int(outputs['tokens']))


class Halt(Hook):
    """Ends the training as a kill would."""

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            raise KeyboardInterrupt


def data(counts=((5, 4), (3,))):
    stages = [
        dict(
            name=name,
            dataset=dict(type='mmkd.StagedToyPacks', seed=seed, counts=list(own)),
            epochs=len(own),
        )
        for seed, (name, own) in enumerate(zip(('first', 'second'), counts, strict=True), 1)
    ]
    return dict(
        batch_size=2,
        num_workers=0,
        dataset=dict(type='mmkd.Curriculum', stages=stages, batch_size=2, accumulate=2),
        sampler=dict(type='mmdistill.NaturalSampler', shuffle=False),
        collate_fn=dict(type='staged_toy_collate'),
    )


def trained(folder, stages=None, hooks=(), resume=False, counts=((5, 4), (3,)), schedule=FIRST):
    """A run of two stages with a checkpoint after each step."""
    notes = Notes()
    if stages is None:
        stages = [
            dict(name='first'),
            dict(name='second', param_scheduler=SECOND, optimizer=dict(lr=0.05)),
        ]
    runner = toy_runner(
        folder,
        # a hook that halts comes after the checkpoint is written
        hooks=[notes, *hooks],
        model=dict(type='mmkd.StagedToyModel'),
        train_dataloader=data(counts),
        train_cfg=dict(type='mmkd.StagedTrainLoop', stages=stages, accumulate=2),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=schedule,
        default_hooks=dict(
            checkpoint=dict(type='mmdistill.SafeCheckpointHook', by_epoch=False, interval=1),
            logger=None,
            timer=None,
        ),
        resume=resume,
    )
    runner.train()
    return notes


def test_steps_boundaries_and_rates(tmp_path):
    notes = trained(tmp_path)
    # 5 packs are two steps of 2 x 2, 4 and 3 packs are one each
    assert len(notes.keys) == 4
    assert [each for step in notes.keys[:2] for batch in step for each in batch] == [
        *([1, 0, n] for n in range(5)),
        *[[-1, -1, -1]] * 3,
    ]
    assert notes.keys[3] == [[[2, 0, 0], [2, 0, 1]], [[2, 0, 2], [-1, -1, -1]]]
    assert notes.steps == [{1}, {2}, {3}, {1}]
    assert notes.rates == pytest.approx([0.1, 0.05, 0.0, 0.05])


def test_loss_is_the_mean_over_all_tokens_of_a_step(tmp_path):
    notes = trained(tmp_path)
    model = nn.Linear(3, 3)
    # the second step's packs: one pack and three empty ones
    model.load_state_dict({k.split('.')[1]: v for k, v in notes.states[0].items()})
    last = ToyPacks(1, [5]).pack(0, 4)
    mean = nn.functional.cross_entropy(model(last['inputs'][:-1]), last['labels'][1:])
    assert notes.losses[1] == pytest.approx(float(mean), rel=1e-5)
    # of packs 0 to 3: three, two, three and two tokens
    assert notes.tokens == [10, 3, 10, 8]


@pytest.mark.parametrize('at', [1, 2, 3])
def test_resume_in_any_stage_equals_never_having_stopped(at, tmp_path):
    whole = trained(tmp_path / 'whole')
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / 'cut', hooks=[dict(type=Halt, at=at, priority='LOWEST')])
    READ.clear()
    rest = trained(tmp_path / 'cut', resume=True)
    assert rest.keys == whole.keys[at:]
    assert rest.rates == whole.rates[at:]
    assert rest.steps == whole.steps[at:]
    assert_same_state(rest.states[-1], whole.states[-1])
    seen = [each for step in whole.keys[at:] for batch in step for each in batch]
    assert [tuple(each) for each in seen if each[0] >= 0] == READ


def test_moments_go_on_where_that_is_asked(tmp_path):
    stages = [dict(name='first'), dict(name='second', reset_optimizer=False)]
    notes = trained(tmp_path, stages)
    assert notes.steps == [{1}, {2}, {3}, {4}]
    assert notes.rates[3] == pytest.approx(0.1)


def test_rates_go_on_where_that_is_asked(tmp_path):
    half = [dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=6)]
    stages = [dict(name='first'), dict(name='second', reset_scheduler=False)]
    notes = trained(tmp_path, stages, schedule=half)
    assert notes.steps == [{1}, {2}, {3}, {1}]
    assert notes.rates == pytest.approx([0.1, 0.08, 0.06, 0.04])


def test_a_schedule_in_shares_of_a_stage():
    config = dict(type='LinearLR', begin=0.0, end=0.25)
    assert within([config, dict(type='PolyLR', begin=3, end=1.0)], 40) == [
        dict(type='LinearLR', begin=0, end=10, by_epoch=False),
        dict(type='PolyLR', begin=3, end=40, by_epoch=False),
    ]
    assert config == dict(type='LinearLR', begin=0.0, end=0.25)
    assert within([config], 3) == [dict(type='LinearLR', begin=0, end=2, by_epoch=False)]


def test_targets_are_counted_over_all_batches():
    labels = [torch.tensor([[-100, 1], [2, -100]]), torch.tensor([[-100, -100], [0, 1]])]
    # a row's first token follows nothing
    assert count_targets([dict(labels=each) for each in labels]) == 2


@pytest.mark.parametrize(
    ('stages', 'message'),
    [
        ([dict(name='first'), dict(name='other')], 'those of the dataset'),
        ([dict(name='first'), dict(name='second', lr=1)], r"\['lr'\] is none of name"),
        ([dict(name='first')], 'those of the dataset'),
        (
            [
                dict(name='first'),
                dict(name='second', reset_scheduler=False, optimizer=dict(lr=1.0)),
            ],
            'needs reset_scheduler=True',
        ),
        (
            [dict(name='first'), dict(name='second', param_scheduler=[dict(type='LinearLR')])],
            "must have the types of the first stage's",
        ),
    ],
)
def test_wrong_stages_have_one_clear_error(stages, message, tmp_path):
    with pytest.raises(UserError, match=message):
        trained(tmp_path, stages)


def test_sizes_that_are_no_whole_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(Curriculum, '__init__', lambda self, **_: None)
    monkeypatch.setattr(Curriculum, '__len__', lambda self: 6)
    monkeypatch.setattr(Curriculum, 'names', ['first'], raising=False)
    monkeypatch.setattr(Curriculum, 'sizes', [6], raising=False)
    with pytest.raises(UserError, match="'first' has 6 samples, no multiple of 4"):
        trained(tmp_path, [dict(name='first')])


def test_iterations_know_their_stage():
    loop = object.__new__(StagedTrainLoop)
    loop.begins = [0, 3, 7]
    stages = []
    for loop._iter in range(9):
        stages.append(loop.stage)
    assert stages == [0, 0, 0, 1, 1, 1, 1, 2, 2]
