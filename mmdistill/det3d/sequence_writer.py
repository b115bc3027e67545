"""Writes simulated sequences as small trees like those of nuScenes and of Waymo.

Both have the info files of mmdet3d 1.4, so that its ``NuScenesDataset`` and ``WaymoDataset`` read
them. Tables of the nuScenes devkit, cameras and Waymo's records are not written: nothing of a
LiDAR training reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mmdistill.core.chunks import in_chunks

from .kitti_infos import dump_infos
from .lidar_sim import Frame, Lidar, SceneSettings
from .lidar_sim.motion import sequence
from .split_file import make_split, write_split

VAL_START = 500
"""First number of a validation sequence."""
SHARES = (0.25, 0.5)
"""Labelled shares of the sequences for which splits are drawn."""
NUSCENES_CLASSES = (
    'car',
    'truck',
    'trailer',
    'bus',
    'construction_vehicle',
    'bicycle',
    'motorcycle',
    'pedestrian',
    'traffic_cone',
    'barrier',
)
WAYMO_CLASSES = ('Car', 'Pedestrian', 'Cyclist')
_NUSCENES_NAMES = dict(Car='car', Van='truck', Pedestrian='pedestrian', Cyclist='bicycle')
_WAYMO_NAMES = dict(Car='Car', Van='Car', Pedestrian='Pedestrian', Cyclist='Cyclist')
KEYFRAME_SECONDS, SWEEP_SECONDS = 0.5, 0.05
"""Between key frames, and between sweeps, as in nuScenes."""
WAYMO_SECONDS = 0.1


@dataclass(frozen=True)
class Recipe:
    """All that a tree depends on.

    Attributes:
        train: number of training sequences, numbered from 0.
        val: number of validation sequences, numbered from :data:`VAL_START`.
        frames: labelled frames of a sequence.
        sweeps: unlabelled sweeps before each of them (nuScenes).
        seed: of the data set.
        lidar: the sensor.
        settings: what scenes hold.
    """

    train: int
    val: int
    frames: int = 4
    sweeps: int = 2
    seed: int = 0
    lidar: Lidar = Lidar(beams=32, azimuth_step=0.4, sector=180.0)
    settings: SceneSettings = SceneSettings()

    def __post_init__(self) -> None:
        """Checks the counts.

        Raises:
            ValueError: a count out of range or a negative seed.
        """
        fits = 0 < self.train <= VAL_START and 0 <= self.val <= VAL_START
        if not (fits and 0 < self.frames < 1000 and self.sweeps >= 0 and self.seed >= 0):
            raise ValueError(
                f'need 1 to {VAL_START} training sequences, 0 to {VAL_START} validation sequences, '
                f'1 to 999 frames, no negative sweeps and seed, got {self}'
            )

    def sequences(self) -> dict[str, list[int]]:
        """Numbers of the sequences of both splits."""
        val = list(range(VAL_START, VAL_START + self.val))
        return dict(train=list(range(self.train)), val=val)


def write_nuscenes(
    root: str | Path,
    recipe: Recipe,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a tree like nuScenes' into an existing folder.

    Points have x, y, z, intensity (0 to 255) and ring; boxes velocities. The result does not depend
    on the number of workers.

    Args:
        root: an existing, empty folder.
        recipe: what to write.
        workers: processes that simulate.
        progress: called with the sequences done and all sequences.
    """
    for name in ('samples', 'sweeps'):
        (Path(root) / name / 'LIDAR_TOP').mkdir(parents=True, exist_ok=True)
    categories = {name: number for number, name in enumerate(NUSCENES_CLASSES)}
    about = dict(categories=categories, dataset='nuscenes', version='v1.0-mini', info_version='1.1')
    _write(Path(root), recipe, _nuscenes_sequence, 'nuscenes', about, workers, progress)


def write_waymo(
    root: str | Path,
    recipe: Recipe,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a tree like the KITTI form of Waymo that mmdet3d makes, into an existing folder.

    Points have x, y, z, intensity, elongation and the time within the frame. The result does not
    depend on the number of workers.

    Args:
        root: an existing, empty folder.
        recipe: what to write; ``sweeps`` does not count.
        workers: processes that simulate.
        progress: called with the sequences done and all sequences.
    """
    (Path(root) / 'training' / 'velodyne').mkdir(parents=True, exist_ok=True)
    categories = {name: number for number, name in enumerate(WAYMO_CLASSES)}
    about = dict(categories=categories, dataset='waymo', version='1.4', info_version='1.1')
    _write(Path(root), recipe, _waymo_sequence, 'waymo', about, workers, progress)


def _write(
    root: Path,
    recipe: Recipe,
    one: Callable[[Path, Recipe, int], list[dict]],
    name: str,
    about: dict,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Simulates the sequences, and writes info files and splits."""
    numbers = [each for found in recipe.sequences().values() for each in found]
    made = in_chunks(partial(_several, one, root, recipe), numbers, 1, workers, progress)
    by_number = dict(zip(numbers, made, strict=True))
    for split, own in recipe.sequences().items():
        infos = [info for number in own for info in by_number[number]]
        if not infos:
            continue
        infos = [
            dict(info, sample_idx=info.get('sample_idx', row)) for row, info in enumerate(infos)
        ]
        file = f'{name}_infos_{split}.pkl'
        dump_infos(infos, root / file, about)
        if split == 'train':
            for share in SHARES:
                drawn = make_split(infos, file, share, 'sequence', seed=recipe.seed)
                write_split(root / 'ImageSets_semi' / f'train_sequence_{share:g}_1.json', drawn)


def _several(
    one: Callable[[Path, Recipe, int], list[dict]], root: Path, recipe: Recipe, numbers: list[int]
) -> list[list[dict]]:
    """Infos of several sequences, made in a worker process."""
    return [one(root, recipe, number) for number in numbers]


def _counted(frame: Frame) -> np.ndarray:
    """(K,) points on each labelled object."""
    return np.bincount(frame.owner[frame.owner >= 0], minlength=len(frame.scene.names))


def _nuscenes_sequence(root: Path, recipe: Recipe, number: int) -> list[dict]:
    """Writes a sequence; infos of its key frames."""
    log = f'n{number % 2:03d}-2018-01-01-00-00-00-0000'
    times = [
        KEYFRAME_SECONDS * key - SWEEP_SECONDS * back
        for key in range(recipe.frames)
        for back in range(recipe.sweeps, -1, -1)
    ]
    still = np.eye(4).tolist()
    start, infos, before = 1_500_000_000.0 + 100.0 * number, [], []
    swept = sequence(recipe.seed, number, times, recipe.lidar, recipe.settings)
    for place, (frame, velocities) in enumerate(swept):
        stamp = start + times[place]
        is_key = place % (recipe.sweeps + 1) == recipe.sweeps
        folder = 'samples' if is_key else 'sweeps'
        name = f'{log}__LIDAR_TOP__{round(stamp * 1e6)}.pcd.bin'
        rings = (frame.ray // recipe.lidar.columns)[:, None]
        points = np.concatenate([frame.points * [1, 1, 1, 255], rings], 1).astype(np.float32)
        points.tofile(root / folder / 'LIDAR_TOP' / name)
        if not is_key:
            sensor = dict(
                lidar_path=f'sweeps/LIDAR_TOP/{name}', lidar2ego=still, lidar2sensor=still
            )
            before.insert(
                0,
                dict(
                    timestamp=stamp,
                    sample_data_token=f'{number:03d}-{place:03d}',
                    ego2global=still,
                    lidar_points=sensor,
                ),
            )
            continue
        infos.append(
            dict(
                token=f'{number:03d}-{place:03d}',
                scene_token=f'scene-{number:04d}',
                timestamp=stamp,
                ego2global=still,
                images={},
                lidar_points=dict(lidar_path=name, num_pts_feats=5, lidar2ego=still),
                lidar_sweeps=list(before),
                instances=_nuscenes_instances(frame, velocities),
                cam_instances={},
            )
        )
        before = before[: 9 - recipe.sweeps]
    return infos


def _nuscenes_instances(frame: Frame, velocities: np.ndarray) -> list[dict]:
    """Labelled objects; boxes with their centre, as nuScenes has them."""
    found = []
    objects = zip(frame.scene.names, frame.scene.boxes, velocities, _counted(frame), strict=True)
    for name, box, velocity, count in objects:
        if name not in _NUSCENES_NAMES:
            continue
        label = NUSCENES_CLASSES.index(_NUSCENES_NAMES[name])
        center = box + np.array([0, 0, box[5] / 2, 0, 0, 0, 0])
        found.append(
            dict(
                bbox_label=label,
                bbox_label_3d=label,
                bbox_3d=center.tolist(),
                bbox_3d_isvalid=bool(count > 0),
                num_lidar_pts=int(count),
                num_radar_pts=0,
                velocity=velocity.tolist(),
            )
        )
    return found


def _waymo_sequence(root: Path, recipe: Recipe, number: int) -> list[dict]:
    """Writes a sequence; infos of its frames."""
    times = [WAYMO_SECONDS * each for each in range(recipe.frames)]
    infos = []
    swept = sequence(recipe.seed, number, times, recipe.lidar, recipe.settings)
    for place, (frame, _) in enumerate(swept):
        index = int(number >= VAL_START) * 1_000_000 + number % VAL_START * 1000 + place
        name = f'{index:07d}.bin'
        columns = (frame.ray % recipe.lidar.columns) / recipe.lidar.columns * WAYMO_SECONDS
        extra = np.stack([np.zeros(len(columns)), columns], 1)
        points = np.concatenate([frame.points, extra], 1).astype(np.float32)
        points.tofile(root / 'training' / 'velodyne' / name)
        infos.append(
            dict(
                sample_idx=index,
                context_name=f'segment-{number:04d}',
                timestamp=round((1.5e9 + 100 * number + times[place]) * 1e6),
                ego2global=np.eye(4).tolist(),
                images={},
                lidar_points=dict(lidar_path=name, num_pts_feats=6),
                instances=_waymo_instances(frame),
            )
        )
    return infos


def _waymo_instances(frame: Frame) -> list[dict]:
    """Labelled objects that have points on them; boxes stand on their bottom."""
    found = []
    for name, box, count in zip(frame.scene.names, frame.scene.boxes, _counted(frame), strict=True):
        if name in _WAYMO_NAMES and count:
            label = WAYMO_CLASSES.index(_WAYMO_NAMES[name])
            found.append(
                dict(
                    bbox=[0.0, 0.0, 0.0, 0.0],
                    bbox_label=label,
                    bbox_label_3d=label,
                    bbox_3d=box.tolist(),
                    num_lidar_pts=int(count),
                    group_id=len(found),
                )
            )
    return found
