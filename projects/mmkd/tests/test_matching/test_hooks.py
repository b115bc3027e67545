"""Files beside the checkpoints of a distillation, and what it warns of."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmdistill.core.errors import UserError
from mmkd.datasets.prepared import PreparedImages
from mmkd.matching.hooks import SyntheticExportHook, TrajectoryHealthHook
from mmkd.matching.picture import grid
from mmkd.registry import HOOKS

KEY = 'distilled/soft'
FILES = ('images', 'labels', 'lr', 'hard_labels')


def runner_of(folder: Path, source: PreparedImages, iteration: int = 0) -> SimpleNamespace:
    """What the hooks see of a runner whose model has two images per class."""
    model = SimpleNamespace(
        images=torch.nn.Parameter(torch.zeros(6, 1, 8, 8)),
        label_logits=torch.nn.Parameter(torch.zeros(6, 3)),
        inner_lr=torch.nn.Parameter(torch.tensor(0.05)),
        hard_labels=torch.arange(3).repeat_interleave(2),
        first_inner_lr=0.05,
        min_inner_lr=1e-6,
        ipc=2,
        source=source,
    )
    return SimpleNamespace(model=model, work_dir=str(folder), iter=iteration, logger=Notes())


class Notes:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, level: int, text: str) -> None:
        """Notes a warning."""
        assert level == logging.WARNING
        self.lines.append(text)


def evaluated(runner: SimpleNamespace, hook: SyntheticExportHook, at: int, score: float) -> None:
    """Other values of the model at an iteration, and an evaluation with a score."""
    runner.iter, draw = at, torch.Generator().manual_seed(at)
    with torch.no_grad():
        for each in (runner.model.images, runner.model.label_logits, runner.model.inner_lr):
            each.copy_(torch.rand(each.shape, generator=draw))
    hook.after_val_epoch(runner, {KEY: score, 'distilled/hard': 100 - score})


def values(at: int) -> list[torch.Tensor]:
    """Those of :func:`evaluated`."""
    draw = torch.Generator().manual_seed(at)
    return [torch.rand(shape, generator=draw) for shape in ((6, 1, 8, 8), (6, 3), ())]


def saved(folder: Path) -> dict[str, torch.Tensor]:
    """Tensors in the folder."""
    files = (folder / 'distilled').glob('*.pt')
    return {each.stem.removesuffix('_best'): torch.load(each, weights_only=True) for each in files}


def is_of(folder: Path, at: int, score: float) -> bool:
    """Whether the best is that of an iteration."""
    found, about = saved(folder), json.loads((folder / 'distilled/distilled.json').read_text())
    same = all(torch.equal(found[k], v) for k, v in zip(FILES, values(at), strict=False))
    return same and (about['iter'], about['score'], about['ipc']) == (at, score, 2)


def begun(runner: SimpleNamespace, **options: Any) -> SyntheticExportHook:
    """A hook whose training begins."""
    hook = HOOKS.build(dict(type='mmkd.SyntheticExportHook', **options))
    hook.before_train(runner)
    return hook


def test_files_have_the_exact_values(learned: SimpleNamespace, tmp_path: Path) -> None:
    runner = runner_of(tmp_path, learned.data)
    evaluated(runner, begun(runner), 50, 60.0)
    found = saved(tmp_path)
    assert set(found) == set(FILES)
    assert is_of(tmp_path, 50, 60.0)
    assert found['hard_labels'].tolist() == [0, 0, 1, 1, 2, 2]
    for each in found.values():
        assert not each.requires_grad and type(each) is torch.Tensor
        assert each.untyped_storage().nbytes() == each.numel() * each.element_size()
    assert runner.model.images.requires_grad


def test_pictures_are_grids(learned: SimpleNamespace, tmp_path: Path) -> None:
    runner = runner_of(tmp_path, learned.data)
    hook = begun(runner, most=1, scale=3)
    evaluated(runner, hook, 50, 60.0)
    evaluated(runner, hook, 100, 50.0)
    for name, at in (('grid_iter_50', 50), ('grid_iter_100', 100), ('images_best', 50)):
        picture = np.asarray(Image.open(tmp_path / f'distilled/{name}.png'))
        assert np.array_equal(picture, grid(values(at)[0], 2, 1, 3).numpy())


def test_whitened_images_are_written_without_whitening_too(
    learned: SimpleNamespace, tmp_path: Path
) -> None:
    inside = learned.source['dataset']
    source = PreparedImages(inside, zca=dict(fit=inside))
    runner = runner_of(tmp_path, source)
    evaluated(runner, begun(runner), 50, 60.0)
    found = saved(tmp_path)
    assert set(found) == {*FILES, 'images_zca'}
    assert torch.equal(found['images'], values(50)[0])
    shown = source.whitening.colour(values(50)[0])
    torch.testing.assert_close(found['images_zca'], shown)
    assert not torch.allclose(found['images'], found['images_zca'], atol=0.1)
    picture = np.asarray(Image.open(tmp_path / 'distilled/images_best.png')).astype(int)
    assert np.abs(picture - grid(shown, 2, 10, 4).numpy()).max() <= 1


def test_files_are_replaced_by_better_ones_alone(learned: SimpleNamespace, tmp_path: Path) -> None:
    runner = runner_of(tmp_path, learned.data)
    hook = begun(runner)
    best = [(50, 60.0), (50, 60.0), (50, 60.0), (200, 60.5), (200, 60.5)]
    for at, score, wanted in zip(range(50, 300, 50), (60, 59, 60, 60.5, 1), best, strict=True):
        evaluated(runner, hook, at, float(score))
        assert is_of(tmp_path, *wanted)
    assert len(list((tmp_path / 'distilled').glob('grid_iter_*.png'))) == 5
    runner.iter = 300
    hook.after_val_epoch(runner, {'other': 99.0})
    hook.after_val_epoch(runner, None)
    assert is_of(tmp_path, 200, 60.5)


def test_another_score_chooses(learned: SimpleNamespace, tmp_path: Path) -> None:
    runner = runner_of(tmp_path, learned.data)
    hook = begun(runner, key='distilled/hard')
    evaluated(runner, hook, 50, 60.0)
    evaluated(runner, hook, 100, 50.0)
    assert is_of(tmp_path, 100, 50.0)


def test_a_training_that_goes_on_keeps_the_best(learned: SimpleNamespace, tmp_path: Path) -> None:
    runner = runner_of(tmp_path, learned.data)
    evaluated(runner, begun(runner), 50, 60.0)
    again = runner_of(tmp_path, learned.data, 70)
    hook = begun(again)
    evaluated(again, hook, 100, 55.0)
    assert is_of(tmp_path, 50, 60.0)
    evaluated(again, hook, 150, 61.0)
    assert is_of(tmp_path, 150, 61.0)


@pytest.mark.parametrize('at', [0, 30])
def test_a_training_from_before_the_best_starts_over(
    at: int, learned: SimpleNamespace, tmp_path: Path
) -> None:
    runner = runner_of(tmp_path, learned.data)
    evaluated(runner, begun(runner), 50, 60.0)
    fresh = runner_of(tmp_path, learned.data, at)
    evaluated(fresh, begun(fresh), 40, 20.0)
    assert is_of(tmp_path, 40, 20.0)


def test_a_test_alone_writes_nothing(learned: SimpleNamespace, tmp_path: Path) -> None:
    evaluated(runner_of(tmp_path, learned.data), SyntheticExportHook(), 50, 60.0)
    assert not list(tmp_path.iterdir())


def test_another_model_is_refused(tmp_path: Path) -> None:
    runner = SimpleNamespace(model=torch.nn.Linear(1, 1), work_dir=str(tmp_path), iter=0)
    with pytest.raises(UserError, match='SyntheticExportHook needs .*label_logits'):
        SyntheticExportHook().before_train(runner)


def watched(
    runner: SimpleNamespace,
    hook: TrajectoryHealthHook,
    losses: list[float],
    skipped: float = 0.0,
    **changes: Any,
) -> list[str]:
    """New warnings of iterations with these losses."""
    before = len(runner.logger.lines)
    for name, value in changes.items():
        getattr(runner.model, name).data.fill_(value)
    for number, loss in enumerate(losses):
        outputs: Mapping[str, Any] = dict(loss=torch.tensor(loss), skipped=skipped)
        hook.after_train_iter(runner, number, None, outputs)
    return runner.logger.lines[before:]


WRONG = [
    (dict(losses=[0.5, float('nan'), 0.5, 0.5]), 'a loss is not finite'),
    (dict(losses=[0.5, float('inf'), 0.5, 0.5]), 'a loss is not finite'),
    (dict(losses=[1.5, 2.0, 1.25, 0.5]), r'further from the target .*\(loss 1.25\)'),
    (dict(losses=[0.5] * 4, skipped=1.0), '100% of the segments are skipped'),
    (dict(losses=[0.5] * 4, inner_lr=1e-6), 'inner_lr fell to min_inner_lr'),
    (dict(losses=[0.5] * 4, inner_lr=1.1), 'inner_lr went from 0.05 to 1.1'),
    (dict(losses=[0.5] * 4, inner_lr=0.0024), 'inner_lr went from 0.05 to 0.0024'),
    (dict(losses=[0.5] * 4, images=float('inf')), 'images have values that are not finite'),
]


@pytest.mark.parametrize(('given', 'message'), WRONG)
def test_each_warning_comes_once(
    given: dict, message: str, learned: SimpleNamespace, tmp_path: Path
) -> None:
    runner = runner_of(tmp_path, learned.data)
    hook = HOOKS.build(dict(type='mmkd.TrajectoryHealthHook', interval=4))
    losses = given['losses']
    assert not watched(runner, hook, [0.9, 0.2, 1.5, 0.9])
    assert not watched(runner, hook, **{**given, 'losses': losses[:3]})
    found = watched(runner, hook, losses[3:], given.get('skipped', 0.0))
    assert len(found) == 1 and re.match(f'distillation: .*{message}', found[0])
    assert not watched(runner, hook, 2 * losses, given.get('skipped', 0.0))


def test_all_that_is_wrong_is_said(learned: SimpleNamespace, tmp_path: Path) -> None:
    runner, hook = runner_of(tmp_path, learned.data), TrajectoryHealthHook(interval=2)
    bad = dict(skipped=1.0, inner_lr=1e-6, images=float('nan'))
    found = watched(runner, hook, [float('nan')] * 2, **bad)
    assert len(found) == 4 and len(set(found)) == 4
    assert len(watched(runner, hook, [2.0] * 2, inner_lr=2.0)) == 2


def test_a_healthy_distillation_is_quiet(learned: SimpleNamespace, tmp_path: Path) -> None:
    runner, hook = runner_of(tmp_path, learned.data), TrajectoryHealthHook()
    for alpha in (0.05, 0.9, 0.003):
        assert not watched(runner, hook, [0.7] * 100, skipped=0.5, inner_lr=alpha)


@pytest.mark.parametrize('floor', [1e-6, 1e-3, 1e-2])
def test_the_floor_is_noticed_whatever_its_rounding(
    floor: float, learned: SimpleNamespace, tmp_path: Path
) -> None:
    runner, hook = runner_of(tmp_path, learned.data), TrajectoryHealthHook(interval=1)
    runner.model.min_inner_lr = floor
    runner.model.inner_lr.data.fill_(0.0).clamp_(min=floor)
    found = watched(runner, hook, [0.5])
    assert len(found) == 1 and 'inner_lr fell to min_inner_lr' in found[0]
