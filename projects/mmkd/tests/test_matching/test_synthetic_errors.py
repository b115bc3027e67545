"""What a distillation refuses, and what it says then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.experts.store import TrajectoryStore
from mmkd.matching.synthetic import TrajectoryMatching


def make(learned: SimpleNamespace, **settings: Any) -> TrajectoryMatching:
    """A distillation with other settings than these."""
    options = dict(
        network=learned.network,
        experts=learned.folder,
        source=learned.source,
        image_size=(8, 8),
        in_channels=1,
        num_classes=3,
        ipc=2,
        steps=2,
    )
    return TrajectoryMatching(**{**options, **settings})


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(ipc=0), 'ipc must be at least 1, got 0'),
        (dict(steps=0), 'steps must be at least 1, got 0'),
        (dict(batch=-1), 'batch must be at least 1, got -1'),
        (dict(batch=0), 'batch must be at least 1, got 0'),
        (dict(init_images='corect'), "init_images 'corect' is none of correct, real, noise"),
        (dict(init_labels='soft'), "init_labels 'soft' is none of mean_correct, first, hard"),
        (dict(engine='exact'), "engine 'exact' is none of adjoint, unroll, tesla"),
        (dict(inner_lr=0.01, min_inner_lr=0.02), 'at least min_inner_lr, .*got 0.01 and 0.02'),
        (dict(min_inner_lr=0.0), 'min_inner_lr, which is above 0; got 0.01 and 0.0'),
        (dict(inner_lr=-0.01), 'at least min_inner_lr, .*got -0.01 and'),
    ],
)
def test_settings(settings: dict, message: str, learned: SimpleNamespace) -> None:
    with pytest.raises(UserError, match=message):
        make(learned, **settings)


def test_experts_of_another_network(learned: SimpleNamespace) -> None:
    model = make(learned, network=dict(learned.network, width=8))
    with pytest.raises(UserError, match=r'its experts have network\.width = 4, asked for is 8'):
        model.init_weights()
    model = make(learned, network=dict(learned.network, norm='group'))
    with pytest.raises(UserError, match=r"network\.norm = nothing, asked for is 'group'"):
        model.init_weights()


def test_experts_of_other_images(learned: SimpleNamespace) -> None:
    model = make(learned, source=learned.other)
    with pytest.raises(UserError, match=f"its experts have data = '{learned.data.digest}', asked"):
        model.init_weights()


def test_no_experts(learned: SimpleNamespace, tmp_path: Any) -> None:
    with pytest.raises(UserError, match='nowhere: there are no trajectories in it'):
        make(learned, experts=str(tmp_path / 'nowhere')).init_weights()


def test_experts_that_are_not_finished(learned: SimpleNamespace, tmp_path: Any) -> None:
    about = dict(network=learned.network, data=learned.data.digest)
    size = TrajectoryStore.open(learned.folder).size
    TrajectoryStore.create_or_open(tmp_path / 'half', about, 2, 6, size)
    with pytest.raises(UserError, match='expert 0 is not finished'):
        make(learned, experts=str(tmp_path / 'half')).init_weights()


@pytest.mark.parametrize('size', [dict(image_size=(8, 9)), dict(in_channels=3)])
def test_images_of_another_size(size: dict, learned: SimpleNamespace) -> None:
    with pytest.raises(UserError, match=r'data set are \(1, 8, 8\), .* of TrajectoryMatching say'):
        make(learned, **size).init_weights()


@pytest.mark.parametrize('images', ['correct', 'real', 'noise'])
@pytest.mark.parametrize('classes', [2, 4])
def test_classes_that_are_not_those_of_network_and_data(
    classes: int, images: str, learned: SimpleNamespace
) -> None:
    with pytest.raises(UserError):
        make(learned, num_classes=classes, init_images=images, init_labels='hard').init_weights()


@pytest.mark.parametrize('images', ['correct', 'real'])
def test_more_images_than_there_are(images: str, learned: SimpleNamespace) -> None:
    with pytest.raises(UserError, match='class (zero|0).*31 are needed'):
        make(learned, ipc=31, init_images=images).init_weights()


def test_images_are_no_network(learned: SimpleNamespace) -> None:
    with pytest.raises(UserError, match="val_cfg and test_cfg need type='mmkd.FromScratchLoop'"):
        make(learned)(torch.zeros(1, 1, 8, 8))
