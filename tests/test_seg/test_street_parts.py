"""Laws of the parts of drawn streets: camera, canvas, painter's order, ground, things."""

from collections import Counter

import cv2
import numpy as np
import pytest
from street_cases import NOTHING, brush, camera, labels, scene

from mmdistill.seg.street_sim import CLASSES, VOID
from mmdistill.seg.street_sim.blocks import LABELS, Block
from mmdistill.seg.street_sim.brush import Place
from mmdistill.seg.street_sim.canvas import FINE, Canvas, capsules, disc, hull
from mmdistill.seg.street_sim.exposure import expose, light
from mmdistill.seg.street_sim.furniture import SIGNS, Clutter, Pole
from mmdistill.seg.street_sim.ground import Ground, paint_ground
from mmdistill.seg.street_sim.looks import TILE, Look, noise
from mmdistill.seg.street_sim.order import behind, painters_order
from mmdistill.seg.street_sim.palettes import PALETTES
from mmdistill.seg.street_sim.people import Pedestrian, TwoWheeler
from mmdistill.seg.street_sim.plants import draw_bush, draw_tree
from mmdistill.seg.street_sim.vehicles import CAR_SHAPES, Vehicle

ID = {name: number for number, name in enumerate(CLASSES)}
AHEAD = Place(0.0, 12.0)

# --- the camera -----------------------------------------------------------


def test_a_point_is_projected_by_hand():
    view = camera(offset=1.0)
    u, v = view.project(np.array([3.0, 10.0, 0.5]))
    assert u == pytest.approx(119 / 2 + 100 * 2 / 10)  # 2 m to the right of the camera
    assert v == pytest.approx(38 + 100 * 1.0 / 10)  # 1 m below it


@pytest.mark.parametrize('curve', [0.0, 0.003, -0.002])
def test_the_ground_is_where_it_is_projected_to(curve):
    view = camera(curve=curve, offset=-0.7)
    u, v = np.arange(0, 120, 7.0), np.arange(40, 80, 3.0)
    s, z = view.ground(u, v)
    points = np.stack([s, np.broadcast_to(z, s.shape), np.zeros_like(s)], -1)
    there = view.project(points)
    np.testing.assert_allclose(there[..., 0], np.broadcast_to(u, s.shape), atol=1e-2)
    np.testing.assert_allclose(there[..., 1], np.broadcast_to(v[:, None], s.shape), atol=1e-2)


def test_the_view_ends_at_the_picture_borders():
    view = camera()  # half a picture is 0.6 of the distance
    for x, seen in ((5.9, True), (6.1, False), (-5.9, True), (-6.1, False)):
        assert view.sees(np.array([(x, 10.0)]), 0.0) == seen
    assert view.sees(np.array([(7.0, 10.0)]), 1.5)
    assert view.sees(np.array([(-40.0, 10.0), (40.0, 10.0)]), 0.0)  # on both sides of it


# --- the canvas -----------------------------------------------------------


def test_outlines_are_centred_on_pixels():
    canvas = Canvas(120, 90)
    canvas.fill(disc(np.array([50.0, 60.0]), 10.0), np.array([255.0, 255, 255]), 7)
    rows, columns = np.nonzero(canvas.label == 7)
    middle = np.array([columns.mean(), rows.mean()])
    np.testing.assert_allclose((middle - (FINE - 1) / 2) / FINE, (50, 60), atol=0.15)
    assert len(rows) / FINE**2 == pytest.approx(np.pi * 100, rel=0.1)


def test_a_stroke_gives_colour_and_label_to_the_same_pixels():
    rng = np.random.default_rng(0)
    canvas = Canvas(64, 64)
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    for label in range(1, 60):
        middle, radius = rng.uniform(-5, 70, 2), rng.uniform(2, 15)
        colour = np.array([label, 255 - label, 3 * label])
        kind, outline = label % 4, disc(middle, radius)
        tile = np.broadcast_to(colour, (8, 8, 3)).astype(np.uint8)
        if kind == 0:
            canvas.fill(outline, colour.astype(float), label)
        elif kind == 1:
            canvas.fill_each(outline[None], colour[None].astype(float), label)
        elif kind == 2:
            canvas.drape(outline[None], tile, 0.7, label)
        else:
            canvas.hang(middle + radius * square, tile, label)
    label = canvas.label.astype(int)
    np.testing.assert_array_equal(canvas.colour, np.stack([label, 255 * (label > 0) - label,
                                                           3 * label], -1))  # fmt: skip
    assert len(np.unique(label)) > 20


def test_a_pixel_has_the_label_of_most_of_its_parts():
    rng = np.random.default_rng(1)
    canvas = Canvas(40, 30)
    canvas.label[:] = rng.choice([0, 1, 2, 11, 255], canvas.label.shape)
    found = canvas.labels()
    assert found.shape == (30, 40) and found.dtype == np.uint8
    for row in range(30):
        for column in range(40):
            part = canvas.label[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel()
            counts = Counter(part.tolist())
            assert counts[int(found[row, column])] == max(counts.values())


def test_pictures_are_averages_and_shade_keeps_labels():
    canvas = Canvas(20, 10)
    canvas.pixels[:] = np.random.default_rng(2).integers(0, 255, canvas.pixels.shape)
    mean = canvas.colour.reshape(10, 2, 20, 2, 3).astype(float).mean((1, 3))
    assert np.abs(canvas.picture() - mean).max() <= 0.5
    before = canvas.pixels.copy()
    canvas.darken(np.array([(4, 2), (12, 2), (12, 7), (4, 7.0)]), 0.5)
    np.testing.assert_array_equal(canvas.label, before[..., 3])
    inside, outside = np.s_[6:14, 10:24], np.s_[17:, :]
    assert np.abs(canvas.colour[inside] - before[inside][..., :3] / 2).max() <= 0.5
    np.testing.assert_array_equal(canvas.pixels[outside], before[outside])


def test_textures_hang_the_right_way_up():
    tile = np.zeros((16, 16, 3), np.uint8)
    tile[:8, :8], tile[:8, 8:], tile[8:, 8:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    canvas = Canvas(60, 60)
    canvas.hang(np.array([(10, 20), (50, 5), (50, 55), (10, 40.0)]), tile, 4)
    picture = canvas.picture()
    for x, y, colour in ((14, 24, 0), (44, 14, 1), (44, 46, 2)):
        assert picture[y, x, colour] == 255
    assert picture[36, 14].sum() == 0 and canvas.labels()[36, 14] == 4
    assert canvas.labels()[5, 12] == 0  # outside


def test_limbs_cover_what_is_near_their_axis():
    canvas = Canvas(80, 60)
    start, stop, radius = np.array([20.0, 15.0]), np.array([58.0, 40.0]), 6.0
    (outline,) = capsules(start[None], stop[None], np.full((1, 2), radius))
    canvas.fill_each(outline[None], np.array([[9.0, 9, 9]]), 5)
    y, x = np.mgrid[:60, :80]
    along = (stop - start) / np.linalg.norm(stop - start)
    offset = np.stack([x, y], -1) - start
    share = np.clip(offset @ along, 0, np.linalg.norm(stop - start))
    far = np.linalg.norm(offset - share[..., None] * along, axis=-1)
    found = canvas.labels() == 5
    assert found[far < radius - 1].all() and not found[far > radius + 1].any()
    assert len(hull(outline)) == len(outline)  # convex


# --- painter's order ------------------------------------------------------


def _boxes(rng, count: int) -> list[tuple[float, float, float, float]]:
    """Disjoint boxes (left, near, right, far)."""
    boxes: list = []
    while len(boxes) < count:
        x, z = rng.uniform(-15, 15), rng.uniform(3, 40)
        w, d = rng.uniform(0.3, 8, 2)
        if all(x > r or x + w < le or z > f or z + d < n for le, n, r, f in boxes):
            boxes.append((x, z, x + w, z + d))
    return boxes


def _corners(boxes) -> np.ndarray:
    return np.array([[(le, n), (r, n), (r, f), (le, f)] for le, n, r, f in boxes])


def _first_hit(box, slope: float) -> float:
    """z at which the ray x = slope * z enters a box, by the slab method; inf outside."""
    left, near, right, far = box
    first, last = near, far
    if slope == 0:
        return first if left <= 0 <= right else np.inf
    a, b = sorted((left / slope, right / slope))
    first, last = max(first, a), min(last, b)
    return first if first < last else np.inf


@pytest.mark.parametrize('seed', range(6))
def test_nearer_things_come_later_on_every_ray(seed):
    rng = np.random.default_rng(seed)
    boxes = _boxes(rng, 30)
    order = painters_order(_corners(boxes))
    assert sorted(order) == list(range(30))
    at = {thing: place for place, thing in enumerate(order)}
    pairs = 0
    for slope in np.linspace(-2, 2, 241):
        hits = sorted((_first_hit(box, slope), k) for k, box in enumerate(boxes))
        hits = [k for z, k in hits if np.isfinite(z)]
        pairs += max(len(hits) - 1, 0)
        assert [at[k] for k in hits] == sorted((at[k] for k in hits), reverse=True)
    assert pairs > 100


def test_a_long_wall_is_behind_what_stands_before_it_and_before_what_is_behind():
    wall, before, after = (4, 5, 4.3, 40), (2.6, 20, 3, 20.4), (6, 20, 6.5, 20.5)
    hidden = behind(_corners([wall, before, after]))
    expected = np.zeros((3, 3), bool)
    expected[0, 1] = expected[2, 0] = expected[2, 1] = True
    hidden[2, 1] = True  # they do not lie on one ray
    np.testing.assert_array_equal(hidden, expected)


def test_things_that_overlap_still_have_an_order():
    rng = np.random.default_rng(0)
    boxes = [(x, z, x + 5, z + 5) for x, z in rng.uniform((-5, 5), (5, 15), (20, 2))]
    assert sorted(painters_order(_corners(boxes))) == list(range(20))
    assert painters_order(np.empty((0, 4, 2))) == []


def _hits(view, blocks, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Number of the box that the ray of each pixel hits first, -1 for none, (H, W)."""
    x = np.broadcast_to(((u - (view.width - 1) / 2) / view.focal)[None], (len(v), len(u)))
    y = np.broadcast_to(((view.horizon - v) / view.focal)[:, None], x.shape)
    nearest, which = np.full(x.shape, np.inf), np.full(x.shape, -1)
    for number, block in enumerate(blocks):
        first, last = np.full(x.shape, block.z[0]), np.full(x.shape, block.z[1])
        with np.errstate(divide='ignore'):
            for slope, low, high in ((x, *block.s), (y, -view.tall, block.tall - view.tall)):
                a, b = low / slope, high / slope
                first, last = (
                    np.maximum(first, np.minimum(a, b)),
                    np.minimum(last, np.maximum(a, b)),
                )
        hit = (first < last) & (first < nearest)
        nearest[hit], which[hit] = first[hit], number
    return which


@pytest.mark.parametrize('seed', range(5))
def test_pixels_show_the_first_box_on_their_ray(seed):
    rng = np.random.default_rng(seed)
    view = camera(width=240, height=160, focal=200.0, horizon=76.3)
    kinds = list(LABELS)
    blocks = [
        Block(kinds[k % 4], (left, right), (near, far), float(rng.uniform(0.8, 6)))
        for k, (left, near, right, far) in enumerate(_boxes(rng, 14))
    ]
    which = _hits(view, blocks, np.arange(240.0), np.arange(160.0))
    drawn = labels(scene(*blocks, view=view))
    expected = np.array([LABELS[block.kind] for block in blocks] + [-1])[which]
    ground_or_sky = np.isin(drawn, (ID['road'], ID['sidewalk'], ID['sky']))
    same = np.where(expected < 0, ground_or_sky, drawn == expected)
    edges = cv2.morphologyEx(which.astype(np.int16), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
    assert same[~edges].all() and (expected >= 0).mean() > 0.2


# --- the ground -----------------------------------------------------------


def test_the_ground_is_as_described():
    ground = Ground(half=4.0, lanes=(0.0,), verge=(1.5, 0.0), walk=(2.0, 3.0), green=(True, False),
                    junction=(20.0, 30.0), zebra=True)  # fmt: skip

    def expected(s: float, z: float) -> int:
        out = abs(s) - 4.0
        if 20 <= z < 30 or out < 0:
            return ID['road']
        if s > 0:
            return ID['sidewalk']
        return ID['terrain'] if 0.2 <= out < 1.5 or out >= 3.5 else ID['sidewalk']

    tool = brush(width=240, height=160, focal=200.0, horizon=70.0, offset=0.4)
    paint_ground(tool.canvas, tool.camera, ground, tool.look)
    label = tool.canvas.label
    for row in range(150, 320, 7):
        for column in range(0, 480, 11):
            u, v = (np.array([k / FINE - (FINE - 1) / 2 / FINE]) for k in (column, row))
            s, z = tool.camera.ground(u, v)
            assert label[row, column] == expected(float(s[0, 0]), float(z[0, 0]))
    assert (label[:140] == NOTHING).all()


def test_marks_are_brighter_and_still_road():
    ground = Ground(half=4.0, solid=True, junction=(15.0, 22.0), zebra=True)
    tool = brush(width=240, height=160, focal=200.0, horizon=70.0)
    paint_ground(tool.canvas, tool.camera, ground, tool.look)
    road = tool.canvas.colour[tool.canvas.label == ID['road']].astype(int).sum(1)
    assert 0.02 < (road > 2 * np.median(road)).mean() < 0.3


# --- things ---------------------------------------------------------------

_TREE = draw_tree(np.random.default_rng(0), AHEAD, 6.0)
_BUSH = draw_bush(np.random.default_rng(0), AHEAD)
_THINGS = [
    *(
        (Vehicle(Place(1.0, 12.0, yaw), shape), {'car'})
        for shape in CAR_SHAPES
        for yaw in (0, 2, 4)
    ),
    (Vehicle(Place(0, 14.0, 0.1), 'truck'), {'truck'}),
    (Vehicle(Place(0, 14.0, np.pi), 'bus'), {'bus'}),
    (Pedestrian(AHEAD, 1.8, 0.2), {'person'}),
    (TwoWheeler(Place(0, 9.0, 1.0), False, False), {'bicycle'}),
    (TwoWheeler(Place(0, 9.0, 1.0), True, False), {'motorcycle'}),
    (TwoWheeler(Place(0, 9.0, 0.0), False, True), {'bicycle', 'rider'}),
    (TwoWheeler(Place(0, 9.0, 2.0), True, True), {'motorcycle', 'rider'}),
    (Pole(AHEAD, 6.0, arm=1.5), {'pole'}),
    (Pole(AHEAD, 3.4, lights=True), {'pole', 'traffic light'}),
    (Pole(AHEAD, 5.5, arm=-2.0, lights=True), {'pole', 'traffic light'}),
    *((Pole(AHEAD, 2.6, sign=sign), {'pole', 'traffic sign'}) for sign in SIGNS),
    (_TREE, {'vegetation'}),
    (_BUSH, {'vegetation'}),
    (Block('building', (2, 8), (10, 20), 6.0, roof=2.0), {'building'}),
    (Block('wall', (2, 2.3), (10, 20), 2.0), {'wall'}),
    (Block('fence', (-3, -2.8), (10, 20), 1.5), {'fence'}),
    (Block('hedge', (2, 3), (10, 20), 1.5), {'vegetation'}),
]


@pytest.mark.parametrize('domain', PALETTES)
@pytest.mark.parametrize(('thing', 'names'), _THINGS)
def test_things_have_their_classes_alone(thing, names, domain):
    tool = brush(domain)
    thing.paint(tool)
    assert set(np.unique(tool.canvas.label)) == {ID[name] for name in names} | {NOTHING}


def test_clutter_has_no_class():
    tool = brush()
    Clutter(AHEAD, (0.5, 0.5, 1.0)).paint(tool)
    assert set(np.unique(tool.canvas.label)) == {VOID, NOTHING}


@pytest.mark.parametrize('motor', [False, True])
def test_riders_sit_on_what_they_ride(motor):
    for yaw in (0.0, 1.0, np.pi):
        tool = brush()
        TwoWheeler(Place(0, 9.0, yaw), motor, True).paint(tool)
        rider = np.argwhere(tool.canvas.label == ID['rider'])
        ridden = np.argwhere(tool.canvas.label == ID['motorcycle' if motor else 'bicycle'])
        assert rider[:, 0].min() < ridden[:, 0].min() < rider[:, 0].max() < ridden[:, 0].max()
        assert abs(rider[:, 1].mean() - ridden[:, 1].mean()) < 0.3 * FINE * 100 / 9


def _extent(tool, label: int) -> np.ndarray:
    """Width and height of a label in pixels."""
    rows, columns = np.nonzero(tool.canvas.label == label)
    return np.array([np.ptp(columns) + 1, np.ptp(rows) + 1]) / FINE


@pytest.mark.parametrize('z', [8.0, 16.0])
def test_things_are_as_large_as_they_are_far(z):
    tool = brush(horizon=30.0)
    Pedestrian(Place(0, z), 1.75, 0.1).paint(tool)
    _, tall = _extent(tool, ID['person'])
    assert tall == pytest.approx(1.78 * 100 / z, abs=1.5)
    tool = brush(horizon=30.0)
    Vehicle(Place(0, z + 2.25), 'saloon').paint(tool)
    wide, _ = _extent(tool, ID['car'])
    assert wide == pytest.approx(1.8 * 100 / z, abs=1.0)


def test_a_car_from_the_side_is_longer_than_from_behind():
    extents = []
    for yaw in (0.0, np.pi / 2):
        tool = brush()
        Vehicle(Place(0, 14.0, yaw), 'estate').paint(tool)
        extents.append(_extent(tool, ID['car']))
    (behind_, _), (side, _) = extents
    assert side == pytest.approx(4.35 * 100 / (14 - 0.9), abs=2) and side > 2 * behind_


def test_a_turned_car_is_the_mirrored_one_turned_the_other_way():
    masks = []
    for sign in (1, -1):
        tool = brush()
        Vehicle(Place(sign * 2.0, 12.0, sign * 0.7), 'van').paint(tool)
        masks.append(tool.canvas.labels() == ID['car'])
    assert (masks[0] != masks[1][:, ::-1]).mean() < 0.01 < masks[0].mean()


# --- looks ----------------------------------------------------------------


def test_both_domains_have_the_same_materials():
    assert set(PALETTES) == {'source', 'target'}
    assert PALETTES['source'].keys() == PALETTES['target'].keys()


@pytest.mark.parametrize('domain', PALETTES)
def test_colours_stay_near_their_palette(domain):
    look = Look(domain, np.random.default_rng(0))
    for material, (tones, spread, tint) in PALETTES[domain].items():
        for _ in range(20):
            colour = look.pick(material)
            ratios = colour[::-1] / np.array(tones)
            off = np.abs(ratios - 1).max(1).min()
            assert off <= spread + tint + 1e-9 and (colour <= 255).all()


def test_air_covers_what_is_far():
    look = Look('target', np.random.default_rng(1))
    colour = np.array([10.0, 200.0, 30.0])
    np.testing.assert_allclose(look.air(colour, 0.0), colour)
    np.testing.assert_allclose(look.air(colour, 1e5), look.haze)
    np.testing.assert_allclose(
        look.air(colour, look.reach), look.haze + (colour - look.haze) / np.e, atol=1e-9
    )
    tile = np.broadcast_to(colour.astype(np.uint8), (4, 4, 3)).copy()
    assert np.abs(look.shade(tile, 1.0, 40.0) - look.air(colour, 40.0)).max() <= 1


def test_noise_has_unit_scale_and_repeats():
    field = noise(np.random.default_rng(3), 12)
    assert field.shape == (TILE, TILE) and 0.5 < field.std() < 1.2
    inner = np.abs(np.diff(field, axis=1)).mean()
    seam = np.abs(field[:, 0] - field[:, -1]).mean()
    assert seam < 2 * inner


def test_a_weak_camera_changes_little_and_a_strong_one_much():
    x = np.linspace(0, 1, 96)
    image = np.stack([np.outer(60 + 120 * x, np.ones(96))] * 3, -1).astype(np.uint8)
    change = {
        strength: np.mean([
            np.abs(expose(np.random.default_rng(k), image, strength) - image.astype(float)).mean()
            for k in range(8)
        ])
        for strength in (0.0, 1.0)
    }  # fmt: skip
    assert change[0.0] < 2 and change[1.0] > 10
    again = [expose(np.random.default_rng(5), image).tobytes() for _ in range(2)]
    assert again[0] == again[1]


def test_light_scales_channels_and_keeps_black():
    image = np.zeros((8, 8, 3), np.uint8)
    image[4:] = (100, 150, 200)
    gains = []
    for seed in range(20):
        lit = light(np.random.default_rng(seed), image)
        assert (lit[:4] == 0).all() and (lit[4:] == lit[4, 0]).all()
        gains.append(lit[4, 0] / image[4, 0])
    gains = np.array(gains)
    assert gains.min() > 0.66 and gains.max() < 1.14
    assert np.ptp(gains.mean(1)) > 0.15 and np.ptp(gains[:, 0] - gains[:, 2]) > 0.05
