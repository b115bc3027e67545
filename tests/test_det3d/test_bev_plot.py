"""Pictures from above: outlines follow the box convention, files are written, empty ones too."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from mmdistill.core.errors import UserError
from mmdistill.det3d.bev_plot import (
    LEVEL_COLOURS,
    Layer,
    Panel,
    draw_bev,
    outlines,
    save_bev,
)

RANGE = [0, -10, -3, 20, 10, 1]


def _boxes(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.5, 4, (count, 3))
    place = rng.uniform((2, -8, -2), (18, 8, -1), (count, 3))
    return np.concatenate([place, size, rng.uniform(-4, 4, (count, 1))], 1)


def test_outlines_have_the_corners_of_the_geometry_kernels():
    from mmdistill.det3d.boxes import corners_bev

    boxes = _boxes(20)
    expected = corners_bev(torch.from_numpy(boxes)).numpy()
    drawn = outlines(boxes)[:, :4]
    distance = np.linalg.norm(drawn[:, :, None] - expected[:, None], axis=-1)
    assert (distance.min(2) < 1e-9).all() and (distance.min(1) < 1e-9).all()


def test_outlines_close_and_point_to_the_front():
    boxes = np.array([[5.0, 1.0, 0.0, 4.0, 2.0, 1.5, np.pi / 2]])
    line = outlines(boxes)[0]
    assert np.allclose(line[0], line[4])
    assert np.allclose(line[5], [5.0, 3.0])  # half the length along yaw
    assert np.allclose(line[6], [5.0, 1.0])
    assert outlines(np.zeros((0, 7))).shape == (0, 7, 2)


def test_left_is_left_and_ahead_is_up():
    axes = Figure().subplots()
    draw_bev(axes, Panel('scene', np.zeros((1, 4))), RANGE)
    left, right = axes.get_xlim()
    low, high = axes.get_ylim()
    assert left > right and high > low


def test_points_outside_are_not_drawn():
    axes = Figure().subplots()
    points = np.array([[5, 0, 0], [25, 0, 0], [-1, 0, 0], [5, 11, 0.0]])
    draw_bev(axes, Panel('scene', points), RANGE)
    assert len(axes.collections[0].get_offsets()) == 1


def test_levels_have_different_colours():
    assert len(set(LEVEL_COLOURS.values())) == len(LEVEL_COLOURS)
    axes = Figure().subplots()
    layers = [Layer('high', _boxes(2)), Layer('low', _boxes(3, 1)), Layer('ambiguous', _boxes(0))]
    draw_bev(axes, Panel('scene', np.zeros((1, 3)), layers), RANGE)
    lines = axes.collections[1:]
    assert [len(each.get_segments()) for each in lines] == [2, 3]
    assert (lines[0].get_colors() != lines[1].get_colors()).any()


@pytest.mark.parametrize('points', [np.zeros((0, 4)), np.random.default_rng(0).random((50, 4))])
def test_picture_is_written(tmp_path, points):
    notes = [f'{number}' for number in range(4)]
    layers = [Layer('ground truth', _boxes(4), notes=notes), Layer('mine', np.zeros((0, 7)), 'red')]
    path = tmp_path / 'new' / 'bev.png'
    save_bev(path, [Panel('a', points, layers), Panel('b', points)], RANGE, 'two')
    assert path.read_bytes()[:4] == b'\x89PNG'


def test_errors_name_the_layer():
    with pytest.raises(UserError, match="'high'"):
        Layer('high', np.zeros((3, 5)))
    with pytest.raises(UserError, match='2 texts, 3 boxes'):
        Layer('high', np.zeros((3, 7)), notes=['a', 'b'])
    with pytest.raises(UserError, match='nothing to draw'):
        save_bev('unused.png', [], RANGE)
