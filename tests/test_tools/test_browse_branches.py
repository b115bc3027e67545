"""The pictured views are those of training."""

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs' / 'hssda' / 'hssda_pointpillars_synthetic-kitti.py'


@pytest.fixture
def options(tools, tiny_kitti):
    """Overrides that point the config at the tiny data set."""
    from benchmark.methods.hssda import data_options

    return {key: str(value) for key, value in data_options(CONFIG, tiny_kitti).items()}


@pytest.fixture
def parts(options, plain_checkpoint):
    """Model and data set."""
    from semi_scenes import build

    return build(CONFIG, plain_checkpoint(), options)


def _rows(array):
    """Rows of an array in a canonical order."""
    array = np.round(np.asarray(array, dtype=np.float64), 3)
    return array[np.lexsort(array.T)]


def test_step_shows_what_training_sees(parts, monkeypatch):
    from semi_scenes import choose, take_step

    model, dataset = parts
    rows = [*choose(dataset, [], 1), dataset.frame_ids.index(min(dataset.labeled_ids))]
    used = []
    loss = model.student_batch

    def remember(*args):
        used.append(loss(*args))
        return used[-1]

    monkeypatch.setattr(model, 'student_batch', remember)
    step = take_step(model, dataset, rows, iteration=3)
    inputs, samples, sigma = used[0]
    assert step.labeled == [False, True]
    for index, (points, boxes, shuffled) in enumerate(step.student):
        assert np.array_equal(points, inputs['points'][index].numpy())
        assert len(boxes) == len(samples[index].gt_instances_3d.labels_3d)
        assert len(shuffled) <= len(points)
    # a labelled scene is not shuffled: what enters are points of the view itself
    points, _, shuffled = step.student[1]
    assert set(map(tuple, _rows(shuffled))) <= set(map(tuple, _rows(points)))
    again = take_step(model, dataset, rows, iteration=3)
    other = take_step(model, dataset, rows, iteration=4)
    assert np.array_equal(step.student[0][0], again.student[0][0])
    assert not np.array_equal(step.student[0][0], other.student[0][0])


def test_unlabelled_scenes_are_shown_shuffled_however_rarely_training_does(parts):
    """All but the identity among the 24 permutations move points."""
    from semi_scenes import choose, take_step

    model, dataset = parts
    moved = 0
    for iteration in range(2):
        step = take_step(model, dataset, choose(dataset, [], 4), iteration)
        for points, _, shuffled in step.student:
            moved += not set(map(tuple, _rows(shuffled))) <= set(map(tuple, _rows(points)))
    assert moved >= 6


def test_teacher_sees_unlabelled_frames_twice(parts):
    from semi_scenes import choose, take_step

    model, dataset = parts
    rows = [*choose(dataset, [], 1), dataset.frame_ids.index(min(dataset.labeled_ids))]
    step = take_step(model, dataset, rows)
    assert set(step.teacher) == {0} and len(step.teacher[0]) == 2
    raw, moved = (points for points, _ in step.teacher[0])
    assert np.array_equal(raw, step.raw[0])
    # a similarity: distances from the sensor differ by one factor
    factor = np.linalg.norm(moved[:, :2], axis=1) / np.linalg.norm(raw[:, :2], axis=1)
    assert factor.std() < 1e-5
    truth = dataset.dataset.get_data_info(dataset.rows[rows[0]])['ann_info']['gt_bboxes_3d']
    assert np.allclose(step.truth[0], truth.tensor.numpy())


def test_levels_are_apart(parts):
    from semi_scenes import choose, take_step

    model, dataset = parts
    step = take_step(model, dataset, choose(dataset, [], 2))
    for levels in step.levels:
        assert set(levels) == {'high', 'ambiguous', 'low'}
        assert all(boxes.shape[1] == 7 for boxes in levels.values())


def test_choice_of_frames(parts):
    from semi_scenes import choose

    from mmdistill.core.errors import UserError

    _, dataset = parts
    free = choose(dataset, [], 99)
    assert len(free) == len(dataset) - len(dataset.labeled_ids)
    assert not {dataset.frame_ids[row] for row in free} & dataset.labeled_ids
    assert [dataset.frame_ids[row] for row in choose(dataset, [5, 2], 0)] == [5, 2]
    with pytest.raises(UserError, match='000999'):
        choose(dataset, [999], 1)


def test_pictures(options, plain_checkpoint, tmp_path, capsys):
    import browse_branches

    given = [f'{key}={value}' for key, value in options.items()]
    fixed = [str(CONFIG), f'--checkpoint={plain_checkpoint()}', f'--out={tmp_path}/pictures']
    browse_branches.main([*fixed, '--frames', '1', '2', '--cfg-options', *given])
    names = {path.name for path in (tmp_path / 'pictures').iterdir()}
    assert names == {'branches_000001.png', 'branches_000002.png'}
    assert capsys.readouterr().out.count('.png') == 2
