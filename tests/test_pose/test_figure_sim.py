"""Laws of the drawn people: geometry, mirrors, what lies under a joint, flags, determinism."""

from dataclasses import replace

import numpy as np
import pytest

from mmdistill.pose.figure_sim import (
    FLIP_INDICES,
    JOINTS,
    LINKS,
    Body,
    Person,
    PictureSettings,
    draw_person,
    simulate,
)
from mmdistill.pose.figure_sim.canvas import FINE, OCCLUDER, TILE, Canvas, Grain, capsule, disc
from mmdistill.pose.figure_sim.fabric import PATTERNS, draw_colour, draw_outfit, weave
from mmdistill.pose.figure_sim.parts import SHOWS, Part, code_of, person_of
from mmdistill.pose.figure_sim.people import View, strokes_of
from mmdistill.pose.figure_sim.picture import compose, label_person, visibility
from mmdistill.pose.figure_sim.poses import ARMS, LEGS, draw_body, draw_pose
from mmdistill.pose.figure_sim.skeleton import Pose, facing, pose_body, turn

SIZE = 160
J = {name: k for k, name in enumerate(JOINTS)}
PAIRS = [(a, b) for a, b in enumerate(FLIP_INDICES) if a < b]


def _standing(yaw: float = 0.0) -> Pose:
    """A relaxed pose; ``yaw`` in degrees."""
    hips = np.radians([(0.0, 6, 10)] * 2)
    arms = np.radians([(0.0, 25, 0)] * 2)
    none = np.zeros(3)
    elbows = np.radians([15.0, 15])
    return Pose(np.radians(yaw), 0.0, 0.0, none, none, hips, np.zeros(2), arms, elbows)


def _person(pose: Pose, seed: int = 0, scale: float = 70.0, **looks) -> Person:
    """A person in the middle of a picture of SIZE pixels."""
    looks = {'hair_style': 'short', **looks}
    outfit = replace(draw_outfit(np.random.default_rng(seed)), **looks)
    view = View(np.array([SIZE / 2 - 0.5, SIZE * 0.55]), scale, 8.0)
    return Person(Body(), pose, outfit, view)


def _canvas(light=(0.0, 0.0)) -> Canvas:
    return Canvas(np.full((SIZE, SIZE, 3), 128, np.uint8), np.array(light))


def _painted(*people: Person) -> Canvas:
    canvas = _canvas()
    for number, person in enumerate(people):
        draw_person(canvas, person, number)
    return canvas


def _random_pose(seed: int) -> Pose:
    return draw_pose(np.random.default_rng(seed), pitch=0.1)[0]


# --- the skeleton ---------------------------------------------------------


def test_rotations_are_rotations():
    for axis in range(3):
        matrix = turn(axis, 0.7)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)


@pytest.mark.parametrize('seed', range(8))
def test_bones_keep_their_lengths_in_every_pose(seed):
    body = draw_body(np.random.default_rng(seed))
    pair = [pose_body(body, pose).joints for pose in (_standing(), _random_pose(seed))]
    for a, b in (np.array(link) - 1 for link in LINKS):
        stiff = {a, b} <= set(range(5)) or min(a, b) >= 5
        if stiff and {a, b} not in ({5, 11}, {6, 12}):  # the trunk bends
            lengths = [np.linalg.norm(joints[a] - joints[b]) for joints in pair]
            assert lengths[0] == pytest.approx(lengths[1]), (JOINTS[a], JOINTS[b])


@pytest.mark.parametrize('seed', range(8))
def test_a_mirrored_pose_has_mirrored_joints(seed):
    pose, body = _random_pose(seed), Body()
    there, here = pose_body(body, pose).joints, pose_body(body, pose.mirrored()).joints
    np.testing.assert_allclose(here, there[list(FLIP_INDICES)] * (-1, 1, 1), atol=1e-12)
    again = pose.mirrored().mirrored()
    np.testing.assert_array_equal(pose_body(body, again).joints, there)


def test_flips_and_links_are_cocos():
    for a, name in enumerate(JOINTS):
        other = name.replace('left', '?').replace('right', 'left').replace('?', 'right')
        assert JOINTS[FLIP_INDICES[a]] == other
    mirrored = {frozenset(FLIP_INDICES[k - 1] + 1 for k in link) for link in LINKS}
    assert mirrored == {frozenset(link) for link in LINKS} and len(LINKS) == 19


def test_left_is_the_persons_own():
    front, back = (_person(_standing(yaw)).joints for yaw in (0, 180))
    for left, right in PAIRS:
        assert front[left, 0] > front[right, 0] and back[left, 0] < back[right, 0]
    side = pose_body(Body(), _standing(90)).joints
    assert side[J['nose'], 0] > side[J['left_ear'], 0]  # looks to the right of the picture
    assert all(side[left, 2] < side[right, 2] for left, right in PAIRS)  # left is the far side


def test_joints_bend_forwards_where_they_do():
    bent = replace(
        _standing(), hips=np.radians([(90.0, 0, 0)] * 2), knees=np.radians([90.0, 90]),
        elbows=np.radians([90.0, 90]), spine=np.radians([30.0, 0, 0]),
    )  # fmt: skip
    joints = pose_body(Body(), bent).joints
    assert joints[J['left_knee'], 2] > 0.3 and joints[J['left_ankle'], 1] < -0.3
    assert joints[J['left_ankle'], 2] > 0.3
    assert joints[J['left_wrist'], 2] > joints[J['left_elbow'], 2] + 0.1
    assert joints[J['nose'], 2] > 0.2


def test_proportions_are_human():
    points = pose_body(Body(1.8), _standing())
    joints = points.joints
    soles, crown = points.heels[:, 1].min() - 0.03, points.head[1] + Body(1.8).head_radii()[1]
    assert crown - soles == pytest.approx(1.8, abs=0.12)
    assert joints[J['left_wrist'], 1] == pytest.approx(joints[J['left_hip'], 1], abs=0.25)


def test_faces_look_where_they_should():
    cosines = {yaw: facing(pose_body(Body(), _standing(yaw))) for yaw in (0, 90, 180)}
    assert (cosines[0][:3] > 0.9).all() and (cosines[180][:3] < -0.9).all()
    assert cosines[90][J['right_eye']] > 0 > cosines[90][J['left_eye']]
    assert cosines[90][J['right_ear']] > 0.9 and cosines[90][J['left_ear']] < -0.9


def test_all_kinds_of_pose_are_drawn():
    rng = np.random.default_rng(0)
    poses, kinds = zip(*(draw_pose(rng) for _ in range(300)), strict=True)
    assert set(kinds) == set(LEGS) and sum(ARMS.values()) == pytest.approx(1)
    joints = np.stack([pose_body(Body(), pose).joints for pose in poses])
    raised = (joints[:, [9, 10], 1] > joints[:, [0], 1]).any(1)
    assert 0.1 < raised.mean() < 0.5
    turned = np.cos([pose.yaw for pose in poses])
    assert (
        (turned > 0.8).sum() > 60 and (turned < -0.8).sum() > 30 and (abs(turned) < 0.4).sum() > 50
    )


# --- the canvas -----------------------------------------------------------


def test_outlines_are_centred_on_pixels():
    canvas = _canvas()
    canvas.fill(disc(np.array([50.0, 70.0]), 10.0), np.array([255, 255, 255]), 40)
    rows, columns = np.nonzero(canvas.codes == 40)
    middle = np.array([columns.mean(), rows.mean()])
    np.testing.assert_allclose((middle - (FINE - 1) / 2) / FINE, (50, 70), atol=0.15)
    assert len(rows) / FINE**2 == pytest.approx(np.pi * 100, rel=0.08)
    assert (canvas.picture()[70, 50] == 255).all() and (canvas.picture()[70, 62] == 128).all()


@pytest.mark.parametrize('where', [(-200, 50), (50, 900), (-2, -3), (158, 80)])
def test_outlines_may_leave_the_canvas(where):
    canvas, tile = _canvas(), np.full((TILE, TILE, 3), 200, np.float32)
    at = np.array(where, float)
    outline = capsule(at, at + 6, 4, 2)
    canvas.drape(outline, tile, Grain(at, np.array([0.6, 0.8]), 4, 20), 33)
    inside = (np.abs(at - SIZE / 2) < SIZE / 2 + 10).all()
    assert (canvas.codes == 33).any() == inside


def test_light_and_roundness_shade_a_limb():
    tile = np.full((TILE, TILE, 3), 150, np.float32)
    start, stop = np.array([80.0, 30]), np.array([80.0, 130])
    grain = Grain(start, np.array([0.0, 1.0]), 12, 30)
    rows = []
    for light in ((0, 0), (0.3, 0)):
        canvas = _canvas(light)
        canvas.drape(capsule(start, stop, 12, 12), tile, grain, 33)
        rows.append(canvas.picture()[80, 70:91, 0].astype(int))
    even, lit = rows
    assert even[10] > even[0] + 15 and abs(even[1] - even[-2]) < 8
    assert lit[-3] > lit[2] + 30


@pytest.mark.parametrize('pattern', PATTERNS)
def test_fabrics_show_their_pattern(pattern):
    rng = np.random.default_rng(0)
    tile = weave(rng, pattern, np.full(3, 40.0), np.full(3, 220.0), 3)
    assert tile.shape == (TILE, TILE, 3)
    along, across = tile[..., 0].mean(1).std(), tile[..., 0].mean(0).std()
    if pattern == 'plain':
        assert tile.std() < 10
    elif pattern == 'rows':
        assert along > 10 * across
    elif pattern == 'columns':
        assert across > 10 * along
    else:
        assert tile.std() > 20


# --- what lies under a joint ----------------------------------------------


@pytest.mark.parametrize('seed', range(24))
def test_a_drawn_limb_lies_under_every_visible_joint(seed):
    person = _person(_random_pose(seed), seed, scale=48.0)
    canvas = _painted(person)
    joints = person.joints
    flags = visibility(canvas, person, 0)
    mask = person_of(canvas.codes) == 0
    at = np.round(joints * FINE + 0.5).astype(int)
    for k in np.flatnonzero(flags == 2):
        x, y = at[k]
        window = canvas.codes[y - 1 : y + 2, x - 1 : x + 2]
        assert mask[y - 1 : y + 2, x - 1 : x + 2].mean() > 0.4, JOINTS[k]
        assert SHOWS[k, window % 32].any(), JOINTS[k]
    assert (flags == 2).sum() >= 6


def test_every_joint_of_a_front_view_is_visible():
    person = _person(_standing(), hair_style='bald')
    assert (visibility(_painted(person), person, 0) == 2).all()


def test_flags_follow_the_direction_of_the_body():
    side, back = (_person(_standing(yaw), hair_style='bald') for yaw in (90, 180))
    flags = visibility(_painted(side), side, 0)
    assert flags[J['nose']] == flags[J['right_eye']] == flags[J['right_ear']] == 2
    assert flags[J['left_ear']] == 0 and flags[J['left_eye']] < 2
    assert flags[J['left_shoulder']] == flags[J['left_hip']] == 1
    assert flags[J['right_shoulder']] == flags[J['right_hip']] == 2
    flags = visibility(_painted(back), back, 0)
    assert (flags[:3] == 0).all() and (flags[5:] == 2).all()


def test_long_hair_hides_the_ears():
    person = _person(_standing(180), hair_style='long')
    assert (visibility(_painted(person), person, 0)[3:5] == 1).all()


@pytest.mark.parametrize('joint', ['left_wrist', 'right_knee', 'left_ankle', 'nose'])
def test_an_occluder_hides_a_joint(joint):
    person = _person(_standing())
    canvas = _painted(person)
    before = visibility(canvas, person, 0)
    canvas.fill(disc(person.joints[J[joint]], 3.0), np.zeros(3), OCCLUDER)
    after = visibility(canvas, person, 0)
    assert before[J[joint]] == 2 and after[J[joint]] == 1
    far = np.linalg.norm(person.joints - person.joints[J[joint]], axis=1) > 6
    np.testing.assert_array_equal(after[far], before[far])


def test_a_nearer_person_hides_the_one_behind():
    behind = _person(_standing(), scale=60.0)
    near = _person(_standing(), scale=60.0)
    canvas = _painted(behind, near)
    flags = visibility(canvas, behind, 0)
    assert not (flags == 2).any() and (visibility(canvas, near, 1)[5:] == 2).all()
    assert label_person(canvas, behind, 0, 9999) is None


def test_the_own_body_hides_a_hand():
    away = replace(_standing(180), elbows=np.radians([120.0, 15]))
    shoulders = np.radians([(35.0, 10, -75), (0, 25, 0)])  # the left hand on the belly
    person = _person(replace(away, shoulders=shoulders))
    flags = visibility(_painted(person), person, 0)
    assert flags[J['left_wrist']] == 1 and flags[J['right_wrist']] == 2


def test_joints_outside_the_picture_are_not_labelled():
    person = _person(_standing())
    person = replace(person, view=replace(person.view, origin=np.array([80.0, 150.0])))
    canvas = _painted(person)
    label = label_person(canvas, person, 0, 1)
    legs = label.keypoints[[13, 14, 15, 16]]
    assert (legs == 0).all() and (label.keypoints[5:11, 2] == 2).all()
    assert label.box[1] + label.box[3] == SIZE


def test_somebody_hardly_seen_has_no_joints():
    person = _person(_standing())
    canvas = _painted(person)
    painted = int((person_of(canvas.codes) == 0).sum())
    hidden = np.array([(0, 0), (SIZE, 0), (SIZE, 143), (0, 143)], float)
    canvas.fill(hidden, np.zeros(3), OCCLUDER)
    label = label_person(canvas, person, 0, painted)
    assert (label.keypoints == 0).all() and 0 < label.area < 0.12 * painted / FINE**2


def test_a_mirrored_person_is_a_mirrored_drawing():
    for seed in range(4):
        pose = _random_pose(seed)
        drawn = [_painted(_person(p, 3, 48.0)) for p in (pose, pose.mirrored())]
        masks = [person_of(canvas.codes) == 0 for canvas in drawn]
        same = masks[0] == masks[1][:, ::-1]
        assert (~same).sum() < 0.04 * masks[0].sum()
        one, other = (_person(p, 3, 48.0) for p in (pose, pose.mirrored()))
        flags = [visibility(c, p, 0) for c, p in zip(drawn, (one, other), strict=True)]
        assert (flags[0] != flags[1][list(FLIP_INDICES)]).sum() <= 1  # at most one at an edge
        expected = one.joints[list(FLIP_INDICES)] * (-1, 1) + (SIZE - 1, 0)
        np.testing.assert_allclose(other.joints, expected, atol=1e-9)


def test_strokes_go_from_far_to_near():
    person = _person(_standing(90))
    depths = [stroke.depth for stroke in strokes_of(person)]
    assert depths == sorted(depths)
    canvas = _painted(person)
    assert (canvas.codes == code_of(0, Part.UPPER_ARM[1])).any()  # the near arm
    with pytest.raises(ValueError, match='person 6'):
        code_of(6, 0)


def test_a_seat_is_not_part_of_the_person():
    pose = replace(_standing(90), hips=np.radians([(85.0, 5, 5)] * 2), knees=np.radians([85.0, 85]))
    bare = _person(pose)
    seated = replace(bare, seat=draw_colour(np.random.default_rng(0)))
    with_seat, without = _painted(seated).codes, _painted(bare).codes
    assert (with_seat == OCCLUDER).sum() > 500
    assert ((person_of(with_seat) == 0) <= (person_of(without) == 0)).all()


# --- whole pictures -------------------------------------------------------


def test_pictures_are_functions_of_seed_and_index():
    one, again, next_, other = (simulate(*key) for key in ((0, 5), (0, 5), (0, 6), (1, 5)))
    assert one.image.tobytes() == again.image.tobytes()
    assert len(one.labels) == len(again.labels)
    for a, b in zip(one.labels, again.labels, strict=True):
        np.testing.assert_array_equal(a.keypoints, b.keypoints)
    assert one.image.tobytes() != next_.image.tobytes() != other.image.tobytes()
    assert one.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize('size', [64, 160, 203])
def test_labels_agree_with_the_pixels(size):
    for index in range(12):
        picture = simulate(3, index, PictureSettings(size=size))
        assert picture.image.shape == (size, size, 3) and picture.image.dtype == np.uint8
        assert picture.codes.shape == (FINE * size, FINE * size)
        areas = [(person_of(picture.codes) == n).sum() / FINE**2 for n in range(6)]
        assert {label.area for label in picture.labels} <= set(areas)
        for label in picture.labels:
            x, y, w, h = label.box
            assert x >= 0 and y >= 0 and x + w <= size and y + h <= size and label.area <= w * h
            flags = label.keypoints[:, 2]
            joints = label.keypoints[flags > 0, :2]
            assert ((joints >= (x, y)) & (joints <= (x + w, y + h))).all()
            assert ((joints >= 0) & (joints <= size - 1)).all()
            assert set(flags) <= {0, 1, 2} and (label.keypoints[flags == 0] == 0).all()


def test_data_sets_hold_what_they_shall():
    pictures = [simulate(0, index) for index in range(60)]
    assert {len(p.people) for p in pictures} == {1, 2, 3}
    flags = np.concatenate([label.keypoints[:, 2] for p in pictures for label in p.labels])
    shares = [(flags == v).mean() for v in (0, 1, 2)]
    assert shares[2] > 0.5 and shares[1] > 0.08 and shares[0] > 0.05
    assert any((p.codes == OCCLUDER).any() for p in pictures)
    assert np.std([p.image.mean() for p in pictures]) > 15


def test_people_are_painted_far_to_near():
    for seed in range(10):
        people = compose(np.random.default_rng(seed), PictureSettings(people=(3, 3)))
        scales = [person.view.scale for person in people]
        assert len(people) == 3 and scales == sorted(scales)


def test_pictures_without_people_or_faults_of_the_camera():
    empty = simulate(0, 0, PictureSettings(people=(0, 0)))
    assert empty.labels == () and not ((empty.codes > 0) & (empty.codes < OCCLUDER)).any()
    assert simulate(0, 1, PictureSettings(noise=0, blur=0, occluders=0)).labels


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        ({'size': 32}, 'size must be 64 to 1024 pixels, got 32'),
        ({'people': (3, 2)}, 'people must be a range'),
        ({'people': (1, 7)}, 'people must be a range'),
        ({'occluders': 1.5}, 'occluders must be a chance'),
        ({'noise': -1.0}, 'must not be negative'),
    ],
)
def test_wrong_settings_are_named(wrong, named):
    with pytest.raises(ValueError, match=named) as error:
        PictureSettings(**wrong)
    assert '\n' not in str(error.value)
