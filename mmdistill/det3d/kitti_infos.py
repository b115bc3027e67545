"""mmdet3d's info files (its "v2" schema) from the files of a KITTI tree alone.

The schema is that of mmdet3d 1.4: ``{metainfo, data_list}``; each frame holds
``sample_idx``, ``images``, ``lidar_points``, ``instances`` and, where the tree
has planes, ``plane``. Boxes stay in the camera frame as in the label files.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from .kitti_format import (
    IMAGE_HW,
    Calibration,
    KittiFormatError,
    KittiObject,
    extend,
    parse_calibration,
    parse_labels,
    parse_plane,
    read_scan,
)
from .kitti_geometry import points_in_box, to_lidar_boxes

CLASSES = ('Pedestrian', 'Cyclist', 'Car', 'Van', 'Truck', 'Person_sitting', 'Tram', 'Misc')
"""mmdet3d's label numbers of KITTI's classes; DontCare is -1."""

_METAINFO = {
    'categories': {**{name: i for i, name in enumerate(CLASSES)}, 'DontCare': -1},
    'dataset': 'kitti',
    'info_version': '1.1',
}


def read_text(path: Path, what: str) -> str:
    """Reads a text file of the tree.

    Raises:
        KittiFormatError: there is no such file; names ``what`` it should hold.
    """
    if not path.is_file():
        raise KittiFormatError(f'{path}: {what} is missing')
    return path.read_text()


def image_hw(path: Path) -> tuple[int, int]:
    """Height and width of a PNG from its header; KITTI's usual size without the file.

    Raises:
        KittiFormatError: the file is no PNG.
    """
    if not path.is_file():
        return IMAGE_HW
    with path.open('rb') as file:
        head = file.read(24)
    if len(head) < 24 or head[:8] != b'\x89PNG\r\n\x1a\n':
        raise KittiFormatError(f'{path}: image is no PNG')
    width, height = struct.unpack('>II', head[16:24])
    return height, width


def read_ids(root: Path, split: str) -> list[str]:
    """Frame ids of ``ImageSets/<split>.txt``, as the six-digit names of their files.

    Raises:
        KittiFormatError: no such split, or a line that is no number or stands twice.
    """
    path = Path(root) / 'ImageSets' / f'{split}.txt'
    seen: dict[str, int] = {}
    for number, row in enumerate(read_text(path, f'split {split!r}').splitlines(), start=1):
        if not row.strip():
            continue
        if not row.strip().isdigit():
            raise KittiFormatError(f'{path}, line {number}: {row!r} is no frame id')
        frame = f'{int(row):06d}'
        if frame in seen:
            raise KittiFormatError(
                f'{path}, line {number}: frame {frame} stands already in line {seen[frame]}'
            )
        seen[frame] = number
    return list(seen)


def frame_info(
    root: Path,
    frame: str,
    labelled: bool = True,
    folder: str = 'training',
    reduced_to: Path | None = None,
) -> dict:
    """The info of one frame.

    Args:
        root: of the KITTI tree.
        frame: six-digit frame id.
        labelled: whether the frame must have labels; without them ``instances`` is empty.
        folder: ``training`` or ``testing``.
        reduced_to: folder that gets the points inside the image as ``<frame>.bin``.

    Raises:
        KittiFormatError: a file is missing, cut short or malformed; names it.
    """
    base = Path(root) / folder
    calibration_path = base / 'calib' / f'{frame}.txt'
    calibration = parse_calibration(read_text(calibration_path, 'calibration'), calibration_path)
    size = image_hw(base / 'image_2' / f'{frame}.png')
    points = read_scan(base / 'velodyne' / f'{frame}.bin')
    seen = points[calibration.in_image(points[:, :3], size)]
    if reduced_to is not None:
        seen.tofile(reduced_to / f'{frame}.bin')
    info = {
        'sample_idx': int(frame),
        'images': _images(calibration, frame, size),
        'lidar_points': {
            'num_pts_feats': 4,
            'lidar_path': f'{frame}.bin',
            'Tr_velo_to_cam': _listed(extend(calibration.velo_to_cam)),
            'Tr_imu_to_velo': _listed(extend(calibration.imu_to_velo)),
        },
        'instances': [],
    }
    if labelled:
        label_path = base / 'label_2' / f'{frame}.txt'
        objects = parse_labels(read_text(label_path, 'label'), label_path)
        info['instances'] = _instances(objects, calibration, seen)
    plane_path = base / 'planes' / f'{frame}.txt'
    if plane_path.is_file():
        info['plane'] = parse_plane(plane_path.read_text(), plane_path)
    return info


def _listed(matrix: np.ndarray) -> list:
    """A matrix as nested lists of float32 values, as in mmdet3d's own infos."""
    return matrix.astype(np.float32).tolist()


def _images(calibration: Calibration, frame: str, size: tuple[int, int]) -> dict:
    """The ``images`` entry: four cameras, camera 2 with the image file."""
    lidar2cam = calibration.lidar2cam
    cameras = {}
    for i, projection in enumerate(calibration.projections):
        cam2img = extend(projection)
        cameras[f'CAM{i}'] = {
            'cam2img': cam2img.tolist(),
            'lidar2img': (cam2img @ lidar2cam).tolist(),
        }
    cameras['CAM2'].update(
        img_path=f'{frame}.png',
        height=size[0],
        width=size[1],
        lidar2cam=_listed(lidar2cam),
    )
    cameras['R0_rect'] = _listed(extend(calibration.rect))
    return cameras


def _instances(objects: list[KittiObject], calibration: Calibration, seen: np.ndarray) -> list:
    """The ``instances`` entry: labelled objects, then (in file order) DontCare with label -1."""
    boxes = to_lidar_boxes(objects, calibration)
    projection = calibration.projections[2]
    instances = []
    real = 0
    for group, (item, box) in enumerate(zip(objects, boxes, strict=True)):
        ignored = item.name == 'DontCare'
        label = CLASSES.index(item.name) if item.name in CLASSES else -1
        h, w, length = item.dimensions
        x, y, z = item.location
        center = projection @ [x, y - h / 2, z, 1.0]
        instances.append(
            {
                'bbox': list(item.bbox),
                'bbox_label': label,
                'bbox_3d': [x, y, z, length, h, w, item.rotation_y],
                'bbox_label_3d': label,
                'depth': float(center[2]),
                'center_2d': (center[:2] / center[2]).tolist(),
                'num_lidar_pts': -1 if ignored else int(points_in_box(seen, box).sum()),
                'difficulty': item.difficulty,
                'truncated': item.truncated,
                'occluded': item.occluded,
                'alpha': item.alpha,
                'score': 0.0,
                'index': -1 if ignored else real,
                'group_id': group,
            }
        )
        real += not ignored
    return instances


def dump_infos(
    data_list: list[dict], path: str | Path, metainfo: Mapping = MappingProxyType(_METAINFO)
) -> None:
    """Writes an info file, whole or not at all; equal infos give equal bytes."""
    path = Path(path)
    part = path.with_name(path.name + '.part')
    with part.open('wb') as file:
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # no memo: bytes do not depend on which values share an object
        pickler.dump({'metainfo': dict(metainfo), 'data_list': data_list})
    os.replace(part, path)


def write_infos(
    root: str | Path,
    split: str,
    out: str | Path | None = None,
    ids: Iterable[str] | None = None,
    labelled: bool = True,
    folder: str = 'training',
    reduced: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes ``kitti_infos_<split>.pkl`` for a KITTI tree from its files on disk.

    Args:
        root: of the tree; it is only read unless ``out`` lies in it.
        split: name of the file in ImageSets and of the info file.
        out: folder of the result, ``root`` by default.
        ids: six-digit frame ids, those of the split by default.
        labelled: whether every frame must have labels.
        folder: ``training`` or ``testing``.
        reduced: also writes the points inside the image to
            ``<out>/<folder>/velodyne_reduced``.
        progress: called with the frames done and all frames.

    Returns:
        The path of the info file.

    Raises:
        KittiFormatError: one of the files is missing or malformed; nothing is
            written to the info file then.
    """
    root = Path(root)
    out = root if out is None else Path(out)
    frames = read_ids(root, split) if ids is None else list(ids)
    out.mkdir(parents=True, exist_ok=True)
    reduced_to = out / folder / 'velodyne_reduced' if reduced else None
    if reduced_to is not None:
        reduced_to.mkdir(parents=True, exist_ok=True)
    infos = []
    for frame in frames:
        infos.append(frame_info(root, frame, labelled, folder, reduced_to))
        if progress is not None:
            progress(len(infos), len(frames))
    path = out / f'kitti_infos_{split}.pkl'
    dump_infos(infos, path)
    return path
