"""Reading COCO's files: clipping, joints that can be used, and errors that name the file."""

import numpy as np
import pytest
from data_cases import person

from mmdistill.core.errors import UserError
from mmdistill.pose.coco_files import (
    FAR_OUTSIDE,
    check_joint_counts,
    clip_boxes,
    joints_of,
    left_out,
    misplaced_joints,
    read_json,
    some,
)


def test_boxes_are_clipped_where_the_size_is_known():
    boxes = np.array([[-5, 2, 20, 100], [-5, 2, 20, 100]], float)
    clipped = clip_boxes(boxes, np.array([[10, 50], [0, 0]]))
    assert clipped.tolist() == [[0, 2, 9, 49], [-5, 2, 15, 102]]


def test_joints_a_little_outside_are_fine():
    edge = 80 * (1 + FAR_OUTSIDE)
    near, far = person(1, 1), person(2, 1)
    near['keypoints'][0], far['keypoints'][0] = edge, edge + 1
    wrong = misplaced_joints([near, far, dict(id=3)], {1: (80, 60)})
    assert list(wrong) == [2] and misplaced_joints([far], {}) == {}
    assert some([1, 2]) == '1, 2' and some(list(range(9))) == '0, 1, 2, 3, 4 and 4 more'


def test_boxes_of_nobody_are_no_error():
    assert clip_boxes(np.zeros((0, 4)), np.zeros((0, 2))).shape == (0, 4)


def test_joints_that_are_no_numbers_are_misplaced_only_where_they_count():
    one, hidden = person(1, 1), person(2, 1)
    one['keypoints'][3] = float('nan')
    hidden['keypoints'][3:6] = float('nan'), 1, 0
    nobody = person(3, 1, num_keypoints=0, keypoints=[float('nan')] * 51)
    wrong = misplaced_joints([one, hidden, nobody], {1: (80, 60)})
    assert list(wrong) == [1] and 'joint 1 lies at [nan, 13.0]' in wrong[1]


def test_joints_are_read_or_not_at_all():
    joints = joints_of(person(1, 1), 17)
    assert joints.shape == (17, 3) and joints.dtype == np.float32
    for keypoints in (None, 'text', [1, 2], [0] * 48, [float('inf')] * 51, [[1, 2], [3]]):
        assert joints_of(person(1, 1, keypoints=keypoints), 17) is None
    assert joints_of({}, 17) is None


def test_only_annotations_that_mmpose_reads_are_counted():
    fine = [person(1, 1), dict(id=2, bbox=[0, 0, 1, 1]), dict(id=3, keypoints=[1])]
    check_joint_counts('a.json', fine, 17)
    for keypoints, size in (([1] * 48, 48), (None, -1), ('text', -1)):
        with pytest.raises(UserError, match=f'annotation 4 has {size} .*, not 3 x 17'):
            check_joint_counts('a.json', [*fine, person(4, 1, keypoints=keypoints)], 17)


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / 'a.json').write_text('[1]')
    assert read_json(tmp_path / 'a.json', 'list') == [1]
    (tmp_path / 'a.json').write_bytes(b'\xff\xfe{')
    with pytest.raises(UserError, match=r'a\.json: the list is no JSON .*copy it again'):
        read_json(tmp_path / 'a.json', 'list')
    with pytest.raises(UserError, match=r'b\.json: no such list'):
        read_json(tmp_path / 'b.json', 'list')


def test_nothing_left_out_is_not_worth_a_line(logged):
    left_out('a.json', 'boxes are', [])
    assert logged == []
    left_out('a.json', 'boxes are', [4, 5])
    assert logged == ['a.json: 2 boxes are left out: 4, 5']
