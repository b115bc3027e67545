"""Laws of the simulated LiDAR: rays, nearest hits, sparsity, occlusion, determinism."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

from mmdistill.det3d import lidar_sim
from mmdistill.det3d.kitti_format import default_calibration
from mmdistill.det3d.kitti_geometry import points_in_box
from mmdistill.det3d.lidar_sim import (
    Lidar,
    Scene,
    SceneSettings,
    actors,
    raycast,
    scenery,
    simulate,
)
from mmdistill.det3d.lidar_sim.frame import scan
from mmdistill.det3d.lidar_sim.layout import Footprints, Ground, Street
from mmdistill.det3d.lidar_sim.raycast import cast, windows
from mmdistill.det3d.lidar_sim.solids import Builder, Solids, concatenate

FLAT_STREET = Street(0.0, 0.0, 100.0, 2.0, 0.0, None, 3.0)
FLAT = Ground(-1.73, np.zeros(2), np.zeros((0, 4)), FLAT_STREET)
QUIET = Lidar(range_noise=0.0, dropout=0.0, sensitivity=1e-9)


def _scene(*placed: tuple[Solids, str | None]) -> Scene:
    """A scene on flat ground of solids, labelled where a name is given."""
    names, parts = [], []
    for solids, name in placed:
        owner = -1 if name is None else len(names)
        parts.append(solids.placed(0, 0, 0, 0, owner))
        names += [] if name is None else [name]
    return Scene(concatenate(parts), FLAT, tuple(names), np.zeros((len(names), 7)))


def _wall(x: float, width: float = 2.0, height: float = 2.0) -> Solids:
    """A thin wall across the view, on the ground, ``x`` metres ahead."""
    builder = Builder()
    builder.prism((x, 0, -1.73 + height / 2), (0.1, width, height))
    return builder.build()


def _cast(solids: Solids, lidar: Lidar = QUIET):
    rays = lidar.rays()
    return rays, cast(solids, lidar, rays, np.random.default_rng(0))


# --- the sensor -----------------------------------------------------------


def test_rays_are_unit_and_follow_the_beams():
    lidar = Lidar(beams=16)
    rays = lidar.rays(0.7).reshape(16, lidar.columns, 3)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1, atol=1e-12)
    elevation = np.arcsin(rays[..., 2])
    np.testing.assert_allclose(elevation, np.tile(lidar.elevations[:, None], lidar.columns))
    assert np.rad2deg(lidar.elevations[[0, -1]]) == pytest.approx([2.0, -24.8])
    assert (np.diff(lidar.elevations) < 0).all()


def test_columns_advance_by_the_azimuth_step():
    lidar = Lidar(beams=4, azimuth_step=0.5, sector=30)
    azimuth = lidar.azimuths(0.3)
    np.testing.assert_allclose(np.diff(azimuth, axis=1), np.deg2rad(0.5))
    assert lidar.columns == 120
    # Offsets of beam and sweep together stay below one step.
    assert (azimuth[:, 0] >= np.deg2rad(-30)).all()
    assert (azimuth[:, 0] < np.deg2rad(-29.5)).all()


@pytest.mark.parametrize('bad', [{'beams': 1}, {'azimuth_step': 0}, {'sector': 200}])
def test_impossible_sensors_are_refused(bad):
    with pytest.raises(ValueError, match='no such LiDAR'):
        Lidar(**bad)


def test_points_lie_on_their_ray():
    frame = simulate(5, 2)
    rays = Lidar().rays(frame.phase)[frame.ray]
    points = frame.points[:, :3].astype(np.float64)
    off = np.linalg.norm(np.cross(rays, points), axis=1)
    assert off.max() < 1e-5
    assert ((rays * points).sum(1) > 0).all()
    assert (np.diff(frame.ray) > 0).all()  # at most one return per ray, beam by beam


def test_range_noise_has_the_stated_spread():
    lidar = Lidar(range_noise=0.05, dropout=0, sensitivity=1e-9)
    rng = np.random.default_rng(0)
    truth = np.full(20000, 20.0)
    _, measured, _ = lidar.detect(truth, np.ones(20000), np.ones(20000), rng)
    assert np.std(measured - truth) == pytest.approx(0.05, rel=0.05)
    assert abs(np.mean(measured - truth)) < 0.002


def test_returns_get_rarer_with_range_incidence_and_dark_paint():
    lidar, n = Lidar(), 20000

    def share(distance, cosine, paint):
        ones = np.ones(n)
        rng = np.random.default_rng(0)
        return lidar.detect(distance * ones, cosine * ones, paint * ones, rng)[0].mean()

    assert share(10, 1, 0.3) == pytest.approx(1 - lidar.dropout, abs=0.01)
    assert share(30, 0.1, 0.1) > share(60, 0.1, 0.1) > 0
    assert share(50, 1, 0.1) > share(50, 0.1, 0.1)
    assert share(50, 0.1, 0.5) > share(50, 0.1, 0.05)
    assert share(lidar.max_range + 1, 1, 1) == 0


# --- intersections --------------------------------------------------------


def test_a_wall_is_hit_at_its_distance_by_hand():
    rays, hits = _cast(_wall(10.0))
    struck = np.flatnonzero(hits.solid == 0)
    points = hits.distance[struck, None] * rays[struck]
    np.testing.assert_allclose(points[:, 0], 9.95, atol=1e-9)
    # Nothing but the face's rays: 2 m wide, from the ground to 0.27 m.
    at_x = rays * (9.95 / rays[:, :1])
    expected = (np.abs(at_x[:, 1]) <= 1) & (at_x[:, 2] <= 0.27) & (at_x[:, 2] >= -1.73)
    np.testing.assert_array_equal(hits.solid == 0, expected)
    np.testing.assert_allclose(hits.cosine[struck], rays[struck, 0], atol=1e-9)


def test_a_ball_is_hit_on_its_surface_with_radial_normals():
    builder = Builder()
    center, radius = np.array([8.0, 1.0, -0.5]), 0.7
    builder.ball(tuple(center), (radius,) * 3)
    rays, hits = _cast(builder.build())
    struck = np.flatnonzero(hits.solid == 0)
    points = hits.distance[struck, None] * rays[struck]
    np.testing.assert_allclose(np.linalg.norm(points - center, axis=1), radius, atol=1e-9)
    # A ray meets the ball if and only if it passes its centre within the radius.
    passes = np.linalg.norm(np.cross(rays, center), axis=1) < radius
    np.testing.assert_array_equal(hits.solid == 0, passes)
    cosine = -((points - center) / radius * rays[struck]).sum(1)
    np.testing.assert_allclose(hits.cosine[struck], cosine, atol=1e-9)


def test_a_rod_is_hit_on_its_mantle_or_its_ends():
    builder = Builder()
    start, end, radius = np.array([6.0, -1.0, -1.2]), np.array([7.0, 1.5, 0.1]), 0.3
    builder.rod(tuple(start), tuple(end), radius)
    rays, hits = _cast(builder.build())
    struck = np.flatnonzero(hits.solid == 0)
    assert len(struck) > 100
    points = hits.distance[struck, None] * rays[struck] - start
    length = np.linalg.norm(end - start)
    axis = (end - start) / length
    along = points @ axis
    away = np.linalg.norm(points - along[:, None] * axis, axis=1)
    assert along.min() > -1e-9 and along.max() < length + 1e-9
    mantle = np.abs(away - radius) < 1e-9
    ends = (np.abs(along) < 1e-9) | (np.abs(along - length) < 1e-9)
    assert (mantle | ends).all() and mantle.any()


def test_a_tapered_prism_leans_by_its_taper():
    builder = Builder()
    builder.prism((10, 0, 0), (2, 4, 2), taper=(0, 0.5, 0))
    rays, hits = _cast(builder.build())
    struck = np.flatnonzero(hits.solid == 0)
    points = hits.distance[struck, None] * rays[struck]
    # The back face moves in by half of the half length from bottom (-1) to top (1).
    np.testing.assert_allclose(points[:, 0], 9 + 0.5 * (points[:, 2] + 1) / 2, atol=1e-9)


@pytest.mark.parametrize('make', [actors.car, actors.pedestrian, actors.cyclist, scenery.tree])
@pytest.mark.parametrize('sector', [50.0, 180.0])
def test_windows_lose_no_hit(make, sector, monkeypatch):
    """Culled casting finds what casting every ray at every solid finds."""
    rng = np.random.default_rng(3)
    lidar = Lidar(beams=24, azimuth_step=1.0, sector=sector)
    parts = [
        make(rng).solids.placed(*rng.uniform(-12, 12, 2), -1.73, rng.uniform(-3, 3), 0)
        for _ in range(4)
    ]
    solids = concatenate(parts)
    solids = Solids(
        solids.kind, solids.center, solids.axes, solids.half, solids.taper, solids.reflectivity,
        np.full(len(solids), np.inf), np.zeros(len(solids)), solids.owner,
    )  # fmt: skip
    rays, hits = _cast(solids, lidar)
    n, top_to_bottom = len(solids), np.full(len(solids), lidar.beams - 1)
    none, all_columns = np.zeros(n, int), np.full(n, lidar.columns)
    monkeypatch.setattr(raycast, 'windows', lambda *_: (none, top_to_bottom, none, all_columns))
    brute = cast(solids, lidar, rays, np.random.default_rng(0))
    np.testing.assert_allclose(hits.distance, brute.distance)
    assert np.isfinite(hits.distance).sum() > 10
    top, bottom, _, columns = windows(solids, lidar)
    tested = (np.maximum(bottom - top + 1, 0) * columns).sum()
    assert tested < 0.5 * n * len(rays)


def test_hits_fall_with_the_square_of_the_range():
    """Rays on an upright square in the evenly spaced upper beams go like 1 / range^2."""
    lidar = Lidar(beams=256, azimuth_step=0.05, sector=20)
    counts = [(_cast(_wall(x, 1.5, 1.5), lidar)[1].solid == 0).sum() for x in (15, 30, 60)]
    assert counts[0] / counts[1] == pytest.approx(4, rel=0.1)
    assert counts[1] / counts[2] == pytest.approx(4, rel=0.15)


def test_porous_matter_thins_out_exponentially():
    builder = Builder()
    builder.prism((10, 0, 0), (4, 4, 1), density=0.5)
    lidar = Lidar(beams=128, azimuth_step=0.05, sector=10)
    rays, hits = _cast(builder.build(), lidar)
    through = np.abs(rays * (8 / rays[:, :1]))[:, 2] < 0.3
    through &= np.abs(rays * (12 / rays[:, :1]))[:, 2] < 0.3
    through &= np.abs(rays[:, 1] / rays[:, 0]) < 0.1
    # 4 m at half a return per metre: exp(-2) get through.
    assert np.mean(hits.solid[through] < 0) == pytest.approx(np.exp(-2), abs=0.02)


# --- the ground -----------------------------------------------------------


def test_flat_ground_is_hit_at_height_over_sine():
    rays = QUIET.rays()
    distance = FLAT.distance(rays, 80.0)
    expected = np.where(rays[:, 2] < 0, 1.73 / np.maximum(-rays[:, 2], 1e-9), np.inf)
    expected[expected >= 80] = np.inf
    np.testing.assert_allclose(distance, expected)


def test_ground_hits_lie_on_the_ground():
    ground = Ground(-1.7, np.array([0.01, -0.005]), np.array([[0.03, 0.2, 0.1, 1.0]]), FLAT_STREET)
    rays = QUIET.rays()
    distance = ground.distance(rays, 80.0)
    hit = rays[np.isfinite(distance)] * distance[np.isfinite(distance), None]
    near = np.hypot(hit[:, 0], hit[:, 1]) < 30
    error = hit[:, 2] - ground.height(hit[:, 0], hit[:, 1])
    assert np.abs(error[near]).max() < 0.01
    plane = ground.plane()
    assert np.linalg.norm(plane[:3]) == pytest.approx(1)
    assert plane @ [4, 3, ground.base + 0.01 * 4 - 0.005 * 3, 1] == pytest.approx(0, abs=1e-12)


# --- occlusion ------------------------------------------------------------


def test_an_object_behind_a_wall_shows_less_than_alone():
    behind = actors.car(np.random.default_rng(0)).solids.placed(20, 0, -1.73, 0.3, 0)
    free = scan(_scene((behind, 'Car')), QUIET, np.random.default_rng(1))
    assert free.visible[0] > 100
    assert free.visible[0] >= 0.97 * free.alone[0]  # the ground takes a few rays at the tyres
    assert free.occlusion()[0] == 0
    seen = [
        scan(_scene((behind, 'Car'), (_wall(10, w), None)), QUIET, np.random.default_rng(1))
        for w in (0.5, 1.0, 4.0)
    ]
    visible = [frame.visible[0] for frame in seen]
    assert free.visible[0] > visible[0] > visible[1] > visible[2]
    states = [frame.occlusion()[0] for frame in seen]
    assert states == sorted(states) and states[-1] == 3
    # Standing behind something does not change how much there would be to see.
    np.testing.assert_allclose([frame.alone[0] for frame in seen], free.alone[0], rtol=0.05)


def test_the_nearest_object_wins_whatever_the_order():
    near, far = _wall(8, 1), _wall(16, 4)
    first = _cast(concatenate([near, far]))[1]
    second = _cast(concatenate([far, near]))[1]
    np.testing.assert_array_equal(first.distance, second.distance)
    np.testing.assert_array_equal(first.solid == 0, second.solid == 1)


# --- actors and scenes ----------------------------------------------------


@pytest.mark.parametrize(
    ('make', 'low', 'high'),
    [
        (actors.car, (3.1, 1.4, 1.2), (5.2, 2.1, 2.4)),
        (actors.pedestrian, (0.25, 0.4, 1.0), (1.4, 1.1, 2.1)),
        (actors.cyclist, (1.5, 0.45, 1.4), (2.1, 1.0, 2.1)),
    ],
)
def test_actors_have_human_sizes_and_differ(make, low, high):
    sizes = np.array([make(np.random.default_rng(i)).size for i in range(60)])
    assert (sizes >= low).all() and (sizes <= high).all()
    assert (sizes.std(0) > 0.02).all()


@pytest.mark.parametrize(
    'make',
    [actors.car, actors.van, actors.pedestrian, actors.cyclist, actors.parked_bicycle]
    + [scenery.bush, scenery.hedge, scenery.fence, scenery.pole, scenery.sign, scenery.bin_]
    + [scenery.skip, scenery.bollard, scenery.column, scenery.thicket],
)
def test_solids_stay_inside_the_size(make):
    for seed in range(10):
        actor = make(np.random.default_rng(seed))
        low, high = actor.solids.bounds()
        half = np.array(actor.size) / 2
        assert (np.abs([low[:2], high[:2]]) <= half[:2] + 1e-9).all()
        assert high[2] <= actor.size[2] + 1e-9


def test_points_of_an_object_lie_in_its_box():
    inside = total = 0
    for index in range(6):
        frame = simulate(1, index)
        for k, box in enumerate(frame.scene.boxes):
            grown = box + np.array([0, 0, -0.08, 0.16, 0.16, 0.16, 0])
            mine = frame.points[frame.owner == k]
            inside += points_in_box(mine, grown).sum()
            total += len(mine)
    assert total > 1000 and inside / total > 0.999


def test_scenes_hold_what_was_asked_for_without_overlap():
    want = SceneSettings(cars=(4, 4), pedestrians=(2, 2), cyclists=(2, 2))
    calibration = default_calibration()
    for index in range(5):
        scene = simulate(9, index, settings=want).scene
        names = np.array(scene.names)
        for name, most in (('Car', 4), ('Pedestrian', 2), ('Cyclist', 2)):
            assert most - 1 <= (names == name).sum() <= most
        labelled = scene.boxes[names != 'Far']
        assert (labelled[:, 0] <= want.far + 0.01).all()
        assert (np.abs(labelled[:, 1]) <= want.side + 0.01).all()
        assert calibration.in_image(labelled[:, :3] + [0, 0, 0.8]).all()
        for i, box in enumerate(scene.boxes):
            prints = Footprints()
            for other in np.delete(scene.boxes, i, axis=0):
                prints.add(*other[[0, 1, 3, 4, 6]])
            assert prints.free(*box[[0, 1, 3, 4, 6]], gap=0.0)


def test_footprints_by_hand():
    prints = Footprints()
    assert prints.free(0, 0, 4, 2, 0.3, 0.1)
    prints.add(0, 0, 4, 2, 0)
    assert prints.free(0, 2.1, 4, 2, 0, 0.0)
    assert not prints.free(0, 2.1, 4, 2, 0, 0.2)
    assert not prints.free(0, 2.1, 4, 2, np.pi / 2, 0.0)
    assert prints.free(3.2, 0, 2, 2, 0, 0.0)
    assert not prints.free(3.2, 0, 2, 2, np.pi / 4, 0.0)  # its corner reaches 1.41 m


def test_frames_are_a_function_of_seed_and_index():
    one, two = simulate(4, 7), simulate(4, 7)
    assert one.points.tobytes() == two.points.tobytes()
    np.testing.assert_array_equal(one.scene.boxes, two.scene.boxes)
    assert simulate(4, 8).points.tobytes() != one.points.tobytes()
    assert simulate(5, 7).points.tobytes() != one.points.tobytes()


def test_full_sweep_sees_behind():
    frame = simulate(0, 0, Lidar(beams=16, azimuth_step=1.0, sector=180))
    azimuth = np.arctan2(frame.points[:, 1], frame.points[:, 0])
    share, _ = np.histogram(azimuth, bins=8, range=(-np.pi, np.pi))
    assert (share > 0).all()
    front = simulate(0, 0).points
    assert np.abs(np.arctan2(front[:, 1], front[:, 0])).max() <= np.deg2rad(50) + 1e-6


def test_the_simulator_needs_numpy_alone():
    package = Path(lidar_sim.__file__).parent
    files = [*package.glob('*.py'), package.parent / 'kitti_format.py']
    files.append(package.parent / 'kitti_geometry.py')
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                roots = {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots = {node.module.split('.')[0]}
            else:
                continue
            assert roots <= {'numpy', *sys.stdlib_module_names}, path
