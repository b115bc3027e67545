"""Pictures of 3D pseudo labels show what training is taught; perspective keeps its laws."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from mmdistill.core.errors import UserError
from mmdistill.det3d.bev_plot import LEVEL_COLOURS, Layer, Panel
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.boxes import corners_bev
from mmdistill.det3d.cloud_plot import draw_perspective, save_cloud
from mmdistill.det3d.perspective import Camera, corners, focus, wires
from mmdistill.det3d.semi_detector import remove_points

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'hssda'
CONFIG = CONFIGS / 'hssda_pointpillars_synthetic-kitti.py'
RANGE = [0, -10, -3, 20, 10, 1]


def _boxes(count, seed=0):
    """Boxes within the range."""
    rng = np.random.default_rng(seed)
    size, place = rng.uniform(0.5, 4, (count, 3)), rng.uniform((2, -8, -2), (18, 8, -1), (count, 3))
    return np.concatenate([place, size, rng.uniform(-4, 4, (count, 1))], 1)


@pytest.fixture
def camera():
    """Behind and above the range, a little to the right."""
    return Camera.behind(np.array([0, -10, -2]), np.array([20, 10, 1]))


def test_perspective_keeps_its_laws(camera):
    target, distance = camera.project(camera.target)
    assert np.allclose(target, 0) and distance == pytest.approx(camera.distance)
    around = camera.target + np.array([[0, 2, 0], [0, -2, 0], [0, 0, 2], [0, 0, -2.0]])
    left, right, above, below = camera.project(around)[0]
    assert left[0] < -0.01 and right[0] > 0.01 and above[1] > 0.01 and below[1] < -0.01
    assert above[0] == pytest.approx(0) and below[0] == pytest.approx(0), 'upright stays upright'
    # an upright stroke of two metres looks smaller far away
    pole = np.array([[0, 0, -1], [0, 0, 1.0]])
    near, far = (
        np.linalg.norm(np.diff(camera.project(pole + [x, 0, 0])[0], axis=0)) for x in (2, 18)
    )
    assert far < 0.8 * near
    # straight lines stay straight
    start, end = np.array([[2.0, -5, -1], [15, 6, 0]])
    seen = camera.project(start + np.linspace(0, 1, 7)[:, None] * (end - start))[0] - 0.0
    along, across = seen[-1] - seen[0], seen - seen[0]
    assert np.allclose(along[0] * across[:, 1], along[1] * across[:, 0])
    behind = camera.position + (camera.position - camera.target)
    assert np.isnan(camera.project(behind)[0]).all()


def test_wires_are_the_edges_of_the_boxes():
    boxes = _boxes(20)
    found = corners(boxes)
    expected = corners_bev(torch.from_numpy(boxes)).numpy()
    distance = np.linalg.norm(found[:, :4, None, :2] - expected[:, None], axis=-1)
    assert (distance.min(2) < 1e-9).all() and (distance.min(1) < 1e-9).all()
    assert np.allclose(found[:, :4, 2], boxes[:, 2:3])
    assert np.allclose(found[:, 4:, 2], boxes[:, 2:3] + boxes[:, 5:6])
    lines = wires(boxes)
    lengths = np.linalg.norm(np.diff(lines, axis=2)[:, :, 0], axis=-1)
    assert np.allclose(np.sort(lengths[:, :12]), np.sort(np.repeat(boxes[:, 3:6], 4, axis=1)))
    heading = lines[:, 12, 1] - lines[:, 12, 0]
    ahead = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6]), 0 * boxes[:, 6]], 1)
    assert np.allclose(heading, ahead * boxes[:, 3:4] / 2)
    assert np.allclose(lines[:, 12, 0, 2], boxes[:, 2] + boxes[:, 5])
    assert np.allclose(found[:, [0, 1, 4, 5], :2].mean(1), boxes[:, :2] + heading[:, :2])


def test_view_holds_boxes_and_stays_in_range():
    points = np.random.default_rng(0).uniform((4, -2, -1.6), (9, 2, -1.5), (500, 3))
    lower, upper = focus(points, np.array([[15, 9, -1, 4, 2, 1, 0.0]]), RANGE)
    assert 4 < lower[0] < 4.5 and -2 < lower[1] < -1.5
    assert upper[0] == 18 and upper[1] == 10, 'three metres more, but not out of the range'
    assert -1.6 < lower[2] < -1.5 and upper[2] - lower[2] == pytest.approx(3)
    assert np.allclose(focus(points[:0], _boxes(0), RANGE)[0], [0, -10, -3])


def test_what_is_drawn_in_perspective():
    axes = Figure().subplots()
    points = np.array([[5, 0, 0], [25, 0, 0], [6, 1, -1], [5, 11, 0], [7, 1, -1.0]])
    removed = np.array([False, False, True, True, False])
    outside = np.concatenate([_boxes(3, 1), [[30, 0, 0, 4, 2, 1, 0.0]]])
    layers = [Layer('ambiguous', _boxes(2), notes=['0.25', '0.50']), Layer('ground truth', outside)]
    draw_perspective(axes, Panel('scene', points, layers, removed), RANGE)
    kept, gone, soft, fronts, truth = axes.collections
    assert len(kept.get_offsets()) == 2 and len(gone.get_offsets()) == 1
    assert np.allclose(gone.get_facecolor()[0], to_rgba(LEVEL_COLOURS['low']))
    assert len(soft.get_segments()) == 2 * 13 and len(truth.get_segments()) == 3 * 13
    assert len(fronts.get_paths()) == 2
    assert {'0.25', '0.50'} < {text.get_text() for text in axes.texts}
    strokes = np.concatenate([*soft.get_segments(), *truth.get_segments()])
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert ((strokes > (left, bottom)) & (strokes < (right, top))).all(), 'all boxes are in view'


@pytest.mark.parametrize('count', [0, 40])
def test_scene_without_boxes_is_written(tmp_path, count):
    points = np.random.default_rng(0).uniform(RANGE[:3], RANGE[3:], (count, 3))
    path = tmp_path / 'new' / 'cloud.png'
    save_cloud(path, Panel('scene', points, [Layer('high', _boxes(0))]), RANGE, {})
    assert path.read_bytes()[:4] == b'\x89PNG'


def test_marks_belong_to_points():
    with pytest.raises(UserError, match="panel 'scene': 2 marks, 3 points"):
        Panel('scene', np.zeros((3, 3)), (), np.zeros(2, bool))


@pytest.fixture
def options(tools, tiny_kitti):
    """Overrides that point the config at the tiny data set."""
    from benchmark.methods.hssda import data_options

    return {key: str(value) for key, value in data_options(CONFIG, tiny_kitti).items()}


class Taught:
    """A model whose teacher finds the hidden objects of two frames; their scores make the levels.

    Attributes:
        boxes: per frame (n, 7) hidden boxes.
        scores: per frame (n,) 0.9, 0.6 and 0.3 in turn: stored, ambiguous and low.
    """

    def __init__(self, options):
        from semi_clouds import choose
        from semi_scenes import build, read

        self.model, self.dataset = build(CONFIG, None, options)
        self.rows = choose(self.dataset, [], 2)
        self.scenes = read(self.model, self.dataset, self.rows, 0)
        hidden = [sample.metainfo['hidden'] for sample in self.scenes.samples]
        self.boxes = [torch.as_tensor(np.asarray(boxes)).float() for boxes, _ in hidden]
        self.scores = [torch.tensor([0.9, 0.6, 0.3]).repeat(len(b))[: len(b)] for b in self.boxes]
        labels = [torch.as_tensor(labels) for _, labels in hidden]
        found = BoxBatch.from_lists(self.boxes, labels, self.scores)
        self.model.filter.low.fill_(0.5)
        self.model.filter.high.fill_(0.8)
        scores = torch.stack([found.weights, torch.ones_like(found.weights)], -1)
        self.model.judge = lambda *_, **__: (found, found, scores)
        stored = [scores > 0.8 for scores in self.scores]
        frames = zip(self.scenes.frames, stored, strict=True)
        self.model.store.update(
            {
                'frames': torch.cat([torch.full((int(each.sum()),), f) for f, each in frames]),
                'boxes': torch.cat([b[each] for b, each in zip(self.boxes, stored, strict=True)]),
                'labels': torch.cat([b[each] for b, each in zip(labels, stored, strict=True)]),
                'scores': torch.cat([s[each] for s, each in zip(self.scores, stored, strict=True)]),
            },
            0,
        )

    def scenes_of(self, iteration=0):
        """The scenes to draw."""
        from semi_clouds import take_scenes

        return take_scenes(self.model, self.dataset, self.rows, iteration)


@pytest.fixture
def taught(options):
    """The model and two frames."""
    return Taught(options)


def test_levels_weights_and_points_are_those_of_training(taught):
    taught.model.unsup_weight.fill_(0.25)  # in the middle of a ramp
    found = taught.scenes_of()
    assert [scene.frame for scene in found] == taught.scenes.frames
    for scene, boxes, scores in zip(found, taught.boxes, taught.scores, strict=True):
        assert np.allclose(scene.truth, boxes)
        for name, score in (('high', 0.9), ('ambiguous', 0.6), ('low', 0.3)):
            assert np.allclose(scene.levels[name][0], boxes[scores == score]), name
        assert np.allclose(scene.levels['ambiguous'][1], 0.6)
    _, low = taught.model.pseudo_labels(taught.scenes)
    kept = remove_points(taught.scenes.points, low).lists()
    assert sum(scene.removed.sum() for scene in found) > 0
    for scene, points in zip(found, kept, strict=True):
        assert np.array_equal(scene.points[~scene.removed], points.numpy())


def test_caption_and_layers_tell_what_is_shown(taught):
    scene = taught.scenes_of()[0]
    counts = [len(scene.levels[name][0]) for name in ('high', 'ambiguous', 'low')]
    expected = '{} high, {} ambiguous, {} low'.format(*counts)
    assert f'frame {scene.frame:06d}, unlabelled: {len(scene.truth)} hidden obj' in scene.caption
    assert f'; {expected}; {scene.removed.sum()} of {len(scene.points)} points' in scene.caption
    panel = scene.panel()
    assert [each.name for each in panel.layers] == ['low', 'ambiguous', 'high', 'ground truth']
    assert list(panel.layers[1].notes) == ['0.60'] * counts[1] and counts[1] > 0
    taught.dataset.keep_hidden = False
    blind = taught.scenes_of()[0]
    assert 'hidden truth unknown' in blind.caption
    assert [each.name for each in blind.panel().layers] == ['low', 'ambiguous', 'high']


def test_boxes_with_velocities_are_drawn(taught, monkeypatch):
    pair = taught.model.pseudo_labels(taught.scenes)
    plain = taught.scenes_of()[0]
    longer = [
        each.with_boxes(torch.nn.functional.pad(each.boxes, (0, 2), value=9)) for each in pair
    ]
    monkeypatch.setattr(taught.model, 'pseudo_labels', lambda _: longer)
    moving = taught.scenes_of()[0]
    for name, (boxes, _) in plain.levels.items():
        assert np.array_equal(moving.levels[name][0], boxes)
    assert np.array_equal(moving.removed, plain.removed) and moving.panel().layers


def test_labelled_frames_are_refused(taught):
    from semi_clouds import choose

    frame = min(taught.dataset.labeled_ids)
    with pytest.raises(UserError, match=f'{frame:06d} is labelled'):
        choose(taught.dataset, [frame], 1)
    with pytest.raises(UserError, match='000999'):
        choose(taught.dataset, [999], 1)


@pytest.mark.parametrize('name', ['hssda', 'mean-teacher'])
def test_pictures(options, plain_checkpoint, tmp_path, capsys, name):
    import visualize_pseudo

    config = CONFIGS / f'{name}_pointpillars_synthetic-kitti.py'
    given = [f'{key}={value}' for key, value in options.items()]
    fixed = [str(config), f'--checkpoint={plain_checkpoint()}', f'--out={tmp_path}/new']
    visualize_pseudo.main([*fixed, '--count=1', '--iter=3', '--cfg-options', *given])
    (path,) = (tmp_path / 'new').iterdir()
    assert path.name.startswith('pseudo_') and path.read_bytes()[:4] == b'\x89PNG'
    assert str(path) in capsys.readouterr().out
