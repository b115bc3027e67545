"""Evaluation of synthetic images: what networks are trained on, and how they are scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn
from torch.utils.data import DataLoader

import mmkd.components  # noqa: F401
from mmdistill.core.errors import UserError
from mmdistill.testing import toy_runner
from mmkd.augment.dsa import DSA
from mmkd.datasets.images import MemoryImages
from mmkd.datasets.prepared import PreparedImages
from mmkd.evaluation.from_scratch import FromScratch, accuracy, spread
from mmkd.loops.from_scratch import FromScratchLoop, FromScratchTestLoop
from mmkd.matching.initial import hard_logits
from mmkd.matching.synthetic import TrajectoryMatching
from mmkd.models.timm_classifier import Classified
from mmkd.registry import LOOPS

CLASSES, IPC = 3, 2
NETWORK = dict(
    type='mmkd.CondensationNet',
    name='MLP',
    width=4,
    num_classes=CLASSES,
    image_size=8,
    in_channels=1,
)
OTHER = dict(NETWORK, width=5)
NAMES = ('zero', 'one', 'two')


def images_of(count: int, seed: int) -> PreparedImages:
    """Random images, the classes in turn."""
    pixels = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    labels = [n % CLASSES for n in range(count)]
    return PreparedImages(MemoryImages(pixels, labels, NAMES, [0.0], [1.0]))


REAL, HELD_OUT, TEST = images_of(24, 0), images_of(30, 1), images_of(36, 2)


def distilled() -> TrajectoryMatching:
    """A distillation with random images and labels."""
    model = TrajectoryMatching(
        NETWORK, 'none', dict(type='x'), (8, 8), 1, CLASSES, IPC, steps=1, inner_lr=0.02
    )
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for each in (model.images, model.label_logits):
            each.copy_(torch.randn(each.shape, generator=draw))
        model.inner_lr.fill_(0.07)
    model._source = REAL
    return model


@pytest.fixture
def loop_of() -> Callable[..., FromScratchLoop]:
    """Builds a loop with a runner that notes its hooks."""

    def make(kind: str = 'mmkd.FromScratchLoop', data: Any = HELD_OUT, **settings: Any) -> Any:
        """With other settings than these."""
        calls: list = []
        runner = SimpleNamespace(
            model=distilled(),
            cfg=ConfigDict(test_dataloader=DataLoader(TEST, 5)),
            calls=calls,
            call_hook=lambda name, **more: calls.append((name, more)),
        )
        config = dict(type=kind, runs=2, epochs=3, batch_size=4)
        return LOOPS.build(
            {**config, **settings}, default_args=dict(runner=runner, dataloader=DataLoader(data, 5))
        )

    return make


class Knows(nn.Module):
    """Is right about the first so many images of the held-out ones."""

    def __init__(self, right: int) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.right = right

    def forward(self, pixel_values: Tensor) -> Classified:
        """Logits."""
        assert torch.equal(pixel_values, HELD_OUT.images)
        wrong = torch.arange(len(pixel_values)) >= self.right
        return Classified(hard_logits((HELD_OUT.labels + wrong.long()) % CLASSES, CLASSES))


def noted(loop: FromScratchLoop, right: Callable[..., int] = lambda job: 15) -> list[Any]:
    """What networks are trained on; none is, but they know as much as is asked for."""
    jobs: list[Any] = []

    def train(
        network: Any, images: Tensor, labels: Tensor, lr: float, run: int, epochs: int | None
    ) -> nn.Module:
        jobs.append(
            SimpleNamespace(
                network=network, images=images, labels=labels, lr=lr, run=run, epochs=epochs
            )
        )
        return Knows(right(jobs[-1]))

    loop.how = SimpleNamespace(train=train, seed=loop.how.seed)
    return jobs


@pytest.mark.parametrize('row', ['soft', 'hard'])
def test_scores_are_those_of_networks_on_the_synthetic_images(
    row: str, loop_of: Callable[..., FromScratchLoop]
) -> None:
    loop = loop_of(rows=(row,), augment=dict(type='mmkd.DSA'), seed=5, runs=3)
    model = loop.runner.model
    labels = dict(soft=model.label_logits, hard=hard_logits(model.hard_labels, CLASSES))[row]
    how = FromScratch(epochs=3, batch_size=4, augment=DSA(), seed=5)
    found = [
        accuracy(
            how.train(NETWORK, model.images, labels, model.inner_lr.item(), run),
            HELD_OUT.images,
            HELD_OUT.labels,
        )
        for run in range(3)
    ]
    mean, std = spread(found)
    assert len(set(found)) > 1
    assert loop.run() == {f'distilled/{row}': mean, f'distilled/{row}_std': std}


def test_what_networks_are_trained_on(loop_of: Callable[..., FromScratchLoop]) -> None:
    loop = loop_of(rows=('soft', 'hard', 'random', 'full'), full_epochs=7)
    model, jobs = loop.runner.model, noted(loop)
    loop.run()
    assert [job.run for job in jobs] == [0, 1] * 4
    assert all(job.network == NETWORK for job in jobs)
    soft, hard, random, full = (jobs[at : at + 2] for at in range(0, 8, 2))
    certain = hard_logits(torch.tensor([0, 0, 1, 1, 2, 2]), CLASSES)
    for job in soft + hard:
        assert torch.equal(job.images, model.images)
        assert job.lr == model.inner_lr.item() and job.epochs is None
    assert all(torch.equal(job.labels, model.label_logits) for job in soft)
    assert all(torch.equal(job.labels, certain) for job in hard + random)
    rows = []
    for job in random:
        same = (job.images[:, None] == REAL.images[None]).flatten(2).all(-1)
        assert (same.sum(-1) == 1).all() and (same.sum(0) <= 1).all()
        rows.append(same.int().argmax(-1))
        assert torch.equal(REAL.labels[rows[-1]], job.labels.argmax(-1))
        assert job.lr == 0.02 and job.epochs is None
    assert not torch.equal(*rows)
    for job in full:
        assert torch.equal(job.images, REAL.images) and job.lr == 0.02 and job.epochs == 7
        assert torch.equal(job.labels, hard_logits(REAL.labels, CLASSES))
    again = loop_of(rows=('random',), real_lr=0.5)
    more = noted(again)
    again.run()
    assert [job.lr for job in more] == [0.5, 0.5]
    assert all(torch.equal(a.images, b.images) for a, b in zip(more, random, strict=True))


def test_mean_and_deviation_by_network_and_row(loop_of: Callable[..., FromScratchLoop]) -> None:
    networks = dict(small=NETWORK, large=OTHER)
    loop = loop_of(rows=('hard', 'soft'), networks=networks, runs=3)
    hard = hard_logits(loop.runner.model.hard_labels, CLASSES)

    def right(job: Any) -> int:
        return 3 * (job.run + 2 * (job.network == OTHER) + 3 * torch.equal(job.labels, hard))

    noted(loop, right)
    # of 30 images 3 n are 10 n per cent; runs are 0, 1 and 2
    means = {'small/soft': 10, 'small/hard': 40, 'large/soft': 30, 'large/hard': 60}
    wanted = {f'distilled/{name}': value for name, value in means.items()}
    wanted |= {'distilled/soft': 10, 'distilled/hard': 40}
    wanted |= {f'{name}_std': 10 for name in wanted}
    assert loop.run() == pytest.approx(wanted)


def test_evaluating_twice_is_the_same_and_changes_nothing(
    loop_of: Callable[..., FromScratchLoop],
) -> None:
    loop = loop_of(rows=('soft', 'hard', 'random', 'full'), full_epochs=1)
    state = {name: each.clone() for name, each in loop.runner.model.state_dict().items()}
    real, held = REAL.images.clone(), HELD_OUT.images.clone()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = loop.run()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert loop.run() == one == loop_of(rows=loop.rows, full_epochs=1).run()
    after = loop.runner.model.state_dict()
    assert all(torch.equal(after[name], each) for name, each in state.items())
    assert all(each.grad is None for each in loop.runner.model.parameters())
    assert torch.equal(REAL.images, real) and torch.equal(HELD_OUT.images, held)


@pytest.mark.parametrize('stage', ['val', 'test'])
def test_hooks_are_called(stage: str, loop_of: Callable[..., FromScratchLoop]) -> None:
    kind = dict(val='mmkd.FromScratchLoop', test='mmkd.FromScratchTestLoop')[stage]
    loop = loop_of(kind)
    noted(loop)
    metrics = loop.run()
    assert loop.runner.calls == [
        (f'before_{stage}', {}),
        (f'before_{stage}_epoch', {}),
        (f'after_{stage}_epoch', dict(metrics=metrics)),
        (f'after_{stage}', {}),
    ]
    assert isinstance(loop, FromScratchTestLoop) == (stage == 'test')


def test_parity_chooses_by_the_test_set(loop_of: Callable[..., FromScratchLoop]) -> None:
    assert loop_of().dataloader.dataset is HELD_OUT
    loop = loop_of(parity=True)
    assert loop.dataloader.dataset is TEST
    how, model = FromScratch(epochs=3, batch_size=4), loop.runner.model
    network = how.train(NETWORK, model.images, model.label_logits, model.inner_lr.item(), 0)
    found = loop_of(parity=True, runs=1).run()
    assert found['distilled/soft'] == accuracy(network, TEST.images, TEST.labels)
    assert found['distilled/soft_std'] == 0


def test_errors(loop_of: Callable[..., FromScratchLoop]) -> None:
    with pytest.raises(UserError, match=r"\['sofd'\] is none of soft, hard, random, full"):
        loop_of(rows=('soft', 'sofd'))
    inside = MemoryImages(HELD_OUT.images, HELD_OUT.labels.tolist(), NAMES, [0.0], [1.0])
    with pytest.raises(UserError, match=r'mmkd\.PreparedImages.*got MemoryImages'):
        loop_of(data=inside)
    with pytest.raises(UserError, match="family 'spin' of DSA is not known"):
        loop_of(augment=dict(type='mmkd.DSA', families='spin'))


def test_at_least_one_network(loop_of: Callable[..., FromScratchLoop]) -> None:
    with pytest.raises(UserError, match='runs'):
        loop_of(runs=0).run()


def test_a_runner_validates_and_tests(tmp_path: Path) -> None:
    loader = dict(batch_size=5, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    settings = dict(runs=2, epochs=2)
    runner = toy_runner(
        tmp_path,
        distilled(),
        train_dataloader=None,
        train_cfg=None,
        optim_wrapper=None,
        val_dataloader=dict(loader, dataset=HELD_OUT),
        val_cfg=dict(type='mmkd.FromScratchLoop', **settings),
        val_evaluator=[],
        test_dataloader=dict(loader, dataset=TEST),
        test_cfg=dict(type='mmkd.FromScratchTestLoop', rows=('soft', 'random'), **settings),
        test_evaluator=[],
    )
    found = runner.val()
    assert set(found) == {'distilled/soft', 'distilled/soft_std'}
    assert len(runner.test()) == 4 and runner.val() == found
