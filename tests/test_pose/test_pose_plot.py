"""Pictures of crops are written, and what does not fit together is refused."""

import cv2
import numpy as np
import pytest

from mmdistill.core.errors import UserError
from mmdistill.pose.pose_plot import Joints, PosePanel, save_poses


def grey(value=128):
    """A picture of one colour."""
    return np.full((64, 48, 3), value, np.uint8)


def test_panels_stand_side_by_side(tmp_path):
    joints = Joints('teacher', np.array([[10.0, 20.0], [30.0, 40.0]]), np.array([0.5, 0.25]))
    one, two = PosePanel('a', grey()), PosePanel('b', grey(), np.zeros((16, 12)), [joints])
    save_poses(tmp_path / 'new' / 'two.png', [one, two], 'both')
    save_poses(tmp_path / 'one.png', [one])
    wide = cv2.imread(str(tmp_path / 'new' / 'two.png'))
    narrow = cv2.imread(str(tmp_path / 'one.png'))
    assert wide.shape[1] == 2 * narrow.shape[1]


@pytest.mark.parametrize(
    ('change', 'colour'),
    [
        (dict(heatmap=np.pad(np.ones((1, 1)), ((7, 8), (5, 6)))), None),
        (dict(joints=[Joints('teacher', np.array([[20.0, 28.0]]))]), (0x50, 0x98, 0x1A)),
    ],
)
def test_heatmaps_and_joints_are_seen(tmp_path, change, colour):
    save_poses(tmp_path / 'plain.png', [PosePanel('x', grey())])
    save_poses(tmp_path / 'drawn.png', [PosePanel('x', grey(), **change)])
    plain, drawn = (cv2.imread(str(tmp_path / f'{name}.png')) for name in ('plain', 'drawn'))
    assert not np.array_equal(plain, drawn)
    if colour is not None:
        assert (np.abs(drawn.astype(int) - colour).max(-1) < 30).any()


def test_joints_that_are_not_shown_are_not_drawn(tmp_path):
    places = np.array([[20.0, 28.0]])
    for name, shown in (('a', np.array([False])), ('b', np.array([True]))):
        panel = PosePanel('x', grey(), None, [Joints('student', places, np.ones(1), shown)])
        save_poses(tmp_path / f'{name}.png', [panel])
    a, b = (cv2.imread(str(tmp_path / f'{name}.png')) for name in 'ab')
    assert not np.array_equal(a, b)


def test_clear_errors(tmp_path):
    with pytest.raises(UserError, match='nothing to draw'):
        save_poses(tmp_path / 'x.png', [])
    with pytest.raises(UserError, match=r"'teacher': places must be \(K, 2\)"):
        Joints('teacher', np.zeros((3, 3)))
    with pytest.raises(UserError, match='3 places, confidences differ'):
        Joints('teacher', np.zeros((3, 2)), np.zeros(2))
