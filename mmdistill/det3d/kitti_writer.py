"""Writes simulated frames as a KITTI tree with mmdet3d's info files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mmdistill.core.chunks import in_chunks

from .kitti_format import (
    Calibration,
    KittiObject,
    default_calibration,
    format_calibration,
    format_plane,
)
from .kitti_geometry import to_label
from .kitti_infos import dump_infos, frame_info
from .lidar_sim import Frame, Lidar, SceneSettings, simulate
from .semi_split import write_splits

FOLDERS = ('velodyne', 'velodyne_reduced', 'label_2', 'calib', 'planes')
VAL_START = 500_000
"""First frame id of the validation split: both splits can grow without touching old frames."""
LABELLED = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)
"""Numbers of labelled frames for which splits are drawn, where the training split has more."""
_CHUNK = 4


@dataclass(frozen=True)
class Recipe:
    """All that a synthetic KITTI data set depends on.

    Attributes:
        train: number of training frames, ids from 0.
        val: number of validation frames, ids from :data:`VAL_START`.
        seed: of the data set.
        lidar: the sensor.
        settings: what scenes hold.
    """

    train: int
    val: int
    seed: int = 0
    lidar: Lidar = Lidar()
    settings: SceneSettings = SceneSettings()

    def __post_init__(self) -> None:
        """Checks the counts.

        Raises:
            ValueError: a count out of range or a negative seed.
        """
        if not (0 < self.train <= VAL_START and 0 <= self.val <= VAL_START and self.seed >= 0):
            raise ValueError(
                f'need 1 to {VAL_START} training frames, 0 to {VAL_START} validation frames and '
                f'a seed >= 0, got train={self.train}, val={self.val}, seed={self.seed}'
            )


def frame_labels(frame: Frame, calibration: Calibration) -> list[KittiObject]:
    """The labels of a simulated frame, DontCare last.

    Objects without a ray on them are left out as nobody could have labelled
    them; those with one or two rays, and those beyond the labelled range,
    become DontCare regions.
    """
    kept, ignored = [], []
    states = frame.occlusion()
    for name, box, state, visible in zip(
        frame.scene.names, frame.scene.boxes, states, frame.visible, strict=True
    ):
        label = to_label(name, box, calibration, int(state))
        if visible == 0 or label.truncated >= 0.99:
            continue
        if name == 'Far' or visible < 3:
            ignored.append(KittiObject('DontCare', -1, -1, -10, label.bbox))
        else:
            kept.append(label)
    return kept + ignored


def camera_plane(plane: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Moves a plane n.x + d = 0 (4,) from the LiDAR to the rectified camera frame."""
    return plane @ np.linalg.inv(calibration.lidar2cam)


def write_frame(root: Path, frame_id: str, frame: Frame, calibration: Calibration) -> None:
    """Writes scan, reduced scan, label, calibration and plane of one training frame."""
    base = Path(root) / 'training'
    frame.points.tofile(base / 'velodyne' / f'{frame_id}.bin')
    lines = ''.join(label.line() + '\n' for label in frame_labels(frame, calibration))
    (base / 'label_2' / f'{frame_id}.txt').write_text(lines)
    (base / 'calib' / f'{frame_id}.txt').write_text(format_calibration(calibration))
    plane = camera_plane(frame.scene.ground.plane(), calibration)
    (base / 'planes' / f'{frame_id}.txt').write_text(format_plane(plane))


def _make(root: Path, recipe: Recipe, index: int) -> dict:
    """Simulates and writes one frame; returns its info."""
    calibration = default_calibration()
    name = f'{index:06d}'
    frame = simulate(recipe.seed, index, recipe.lidar, recipe.settings, calibration)
    write_frame(root, name, frame, calibration)
    return frame_info(root, name, reduced_to=Path(root) / 'training' / 'velodyne_reduced')


def _make_many(root: Path, recipe: Recipe, indices: list[int]) -> list[dict]:
    """The infos of several frames, made in a worker process."""
    return [_make(root, recipe, index) for index in indices]


def write_dataset(
    root: str | Path,
    recipe: Recipe,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a synthetic KITTI tree and its info files into an existing folder.

    The result does not depend on the number of workers.

    Args:
        root: an existing, empty folder.
        recipe: what to write.
        workers: processes that simulate.
        progress: called with the frames done and all frames.
    """
    root = Path(root)
    for name in FOLDERS:
        (root / 'training' / name).mkdir(parents=True, exist_ok=True)
    (root / 'ImageSets').mkdir(exist_ok=True)
    train = list(range(recipe.train))
    val = list(range(VAL_START, VAL_START + recipe.val))
    frames = train + val
    infos = in_chunks(partial(_make_many, root, recipe), frames, _CHUNK, workers, progress)

    splits = {'train': train, 'val': val, 'trainval': frames, 'test': []}
    by_id = {info['sample_idx']: info for info in infos}
    for name, ids in splits.items():
        text = ''.join(f'{i:06d}\n' for i in ids)
        (root / 'ImageSets' / f'{name}.txt').write_text(text)
        if ids:
            dump_infos([by_id[i] for i in ids], root / f'kitti_infos_{name}.pkl')
    sizes = [size for size in LABELLED if size < recipe.train]
    write_splits(root / 'ImageSets_semi', train, sizes, seed=recipe.seed)
