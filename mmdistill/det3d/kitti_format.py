"""KITTI's files as Python values: calibration, object labels, scans, ground planes.

Layout of the files: Geiger, Lenz and Urtasun, "Are we ready for autonomous
driving? The KITTI vision benchmark suite", CVPR 2012, and the object
development kit's readme. Numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

IMAGE_HW = (375, 1242)
"""Height and width in pixels taken when a frame has no image file."""


class KittiFormatError(ValueError):
    """A file of a KITTI tree is missing or does not hold what it should."""


@dataclass(frozen=True)
class Calibration:
    """The matrices of one ``calib/*.txt``, float64.

    Attributes:
        projections: (4, 3, 4), P0 to P3, rectified camera metres to pixels.
        rect: (3, 3), R0_rect.
        velo_to_cam: (3, 4), Tr_velo_to_cam.
        imu_to_velo: (3, 4), Tr_imu_to_velo.
    """

    projections: np.ndarray
    rect: np.ndarray
    velo_to_cam: np.ndarray
    imu_to_velo: np.ndarray

    @property
    def lidar2cam(self) -> np.ndarray:
        """(4, 4), R0_rect @ Tr_velo_to_cam: LiDAR metres to rectified camera 0 metres."""
        return extend(self.rect) @ extend(self.velo_to_cam)

    @property
    def lidar2img(self) -> np.ndarray:
        """(4, 4), P2 @ lidar2cam: LiDAR metres to homogeneous pixels of camera 2."""
        return extend(self.projections[2]) @ self.lidar2cam

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Moves (N, 3) LiDAR points to the rectified camera frame, (N, 3)."""
        matrix = self.lidar2cam
        return points @ matrix[:3, :3].T + matrix[:3, 3]

    def to_lidar(self, points: np.ndarray) -> np.ndarray:
        """Moves (N, 3) rectified camera points to the LiDAR frame, (N, 3)."""
        matrix = np.linalg.inv(self.lidar2cam)
        return points @ matrix[:3, :3].T + matrix[:3, 3]

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Projects (N, 3) LiDAR points to camera 2's u, v in pixels and depth in metres, (N, 3)."""
        matrix = self.lidar2img
        homogeneous = points @ matrix[:3, :3].T + matrix[:3, 3]
        depth = homogeneous[:, 2:]
        with np.errstate(divide='ignore', invalid='ignore'):
            return np.concatenate([homogeneous[:, :2] / depth, depth], axis=1)

    def in_image(self, points: np.ndarray, image_hw: tuple[int, int] = IMAGE_HW) -> np.ndarray:
        """Says which of (N, 3) LiDAR points fall into camera 2's image, bool (N,)."""
        u, v, depth = self.pixels(points.astype(np.float64)).T
        height, width = image_hw
        return (depth > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)


@dataclass(frozen=True)
class KittiObject:
    """One line of ``label_2/*.txt``.

    Attributes:
        name: class name, ``DontCare`` for regions without a 3D box.
        truncated: share outside the image, 0 to 1 (-1 for DontCare).
        occluded: 0 visible, 1 partly, 2 largely occluded, 3 unknown (-1 for DontCare).
        alpha: observation angle in radians.
        bbox: left, top, right, bottom in pixels.
        dimensions: height, width, length in metres.
        location: x, y, z of the bottom centre in the rectified camera frame, metres.
        rotation_y: heading about the camera's y axis in radians.
    """

    name: str
    truncated: float
    occluded: int
    alpha: float
    bbox: tuple[float, float, float, float]
    dimensions: tuple[float, float, float] = (-1, -1, -1)
    location: tuple[float, float, float] = (-1000, -1000, -1000)
    rotation_y: float = -10

    def line(self) -> str:
        """The object in KITTI's text form, two decimals."""
        if self.name == 'DontCare':
            box = ' '.join(f'{v:.2f}' for v in self.bbox)
            return f'DontCare -1 -1 -10 {box} -1 -1 -1 -1000 -1000 -1000 -10'
        numbers = (*self.bbox, *self.dimensions, *self.location, self.rotation_y)
        tail = ' '.join(f'{v:.2f}' for v in numbers)
        return f'{self.name} {self.truncated:.2f} {self.occluded:d} {self.alpha:.2f} {tail}'

    @property
    def difficulty(self) -> int:
        """0 easy, 1 moderate, 2 hard, -1 none, by KITTI's height, occlusion, truncation."""
        height = self.bbox[3] - self.bbox[1]
        for level, (pixels, occluded, truncated) in enumerate(
            ((40, 0, 0.15), (25, 1, 0.3), (25, 2, 0.5))
        ):
            if height > pixels and self.occluded <= occluded and self.truncated <= truncated:
                return level
        return -1


def extend(matrix: np.ndarray) -> np.ndarray:
    """Pads a (3, 3) or (3, 4) matrix to (4, 4) with the identity."""
    result = np.eye(4, dtype=matrix.dtype)
    result[: matrix.shape[0], : matrix.shape[1]] = matrix
    return result


def default_calibration() -> Calibration:
    """A rig close to KITTI's: four cameras of 721 px focal length, LiDAR 0.27 m behind."""
    projections = np.zeros((4, 3, 4))
    projections[:, :, :3] = [[721.4, 0, 609.7], [0, 721.4, 173.0], [0, 0, 1]]
    projections[:, :, 3] = [
        [0, 0, 0], [-387.4, 0, 0], [44.9, 0.21, 0.0027], [-339.1, 2.2, 0.0027]
    ]  # fmt: skip
    rect = _rotation(0.0041, -0.0080, 0.0099)
    axes = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], dtype=np.float64)
    velo_rotation = _rotation(-0.0013, 0.0072, 0.0074) @ axes
    velo = np.column_stack([velo_rotation, [-0.0041, -0.0762, -0.2716]])
    imu = np.column_stack([_rotation(0.0149, 0.0020, -0.0008), [-0.8087, 0.3196, -0.7997]])
    calibration = Calibration(projections, rect, velo, imu)
    return parse_calibration(format_calibration(calibration))


def _rotation(x: float, y: float, z: float) -> np.ndarray:
    """Rotation about x, then y, then z by angles in radians, (3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([x, y, z]), np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


_CALIBRATION_SHAPES = {
    **{f'P{i}': (3, 4) for i in range(4)},
    'R0_rect': (3, 3),
    'Tr_velo_to_cam': (3, 4),
    'Tr_imu_to_velo': (3, 4),
}


def format_calibration(calibration: Calibration) -> str:
    """A calibration as the text of ``calib/*.txt``."""
    matrices = (
        *calibration.projections,
        calibration.rect,
        calibration.velo_to_cam,
        calibration.imu_to_velo,
    )
    rows = (
        f'{key}: ' + ' '.join(f'{v:.12e}' for v in matrix.ravel())
        for key, matrix in zip(_CALIBRATION_SHAPES, matrices, strict=True)
    )
    return '\n'.join(rows) + '\n\n'


def parse_calibration(text: str, source: str | Path = '<text>') -> Calibration:
    """Reads the text of ``calib/*.txt``.

    Raises:
        KittiFormatError: a matrix is missing or has the wrong number of values;
            names ``source`` and the key.
    """
    values = {}
    for row in text.splitlines():
        key, _, numbers = row.partition(':')
        try:
            values[key.strip()] = np.array([float(v) for v in numbers.split()])
        except ValueError as error:
            raise KittiFormatError(f'{source}: {key}: {error}') from error
    matrices = {}
    for key, shape in _CALIBRATION_SHAPES.items():
        found = values.get(key, np.empty(0))
        if found.size != shape[0] * shape[1] or not np.isfinite(found).all():
            raise KittiFormatError(
                f'{source}: {key} needs {shape[0] * shape[1]} finite values, found {found.size}'
            )
        matrices[key] = found.reshape(shape)
    return Calibration(
        np.stack([matrices[f'P{i}'] for i in range(4)]),
        matrices['R0_rect'],
        matrices['Tr_velo_to_cam'],
        matrices['Tr_imu_to_velo'],
    )


def parse_labels(text: str, source: str | Path = '<text>') -> list[KittiObject]:
    """Reads the text of ``label_2/*.txt``.

    Raises:
        KittiFormatError: a line has not 15 (or 16, with a score) fields or a
            field is no number; names ``source`` and the line.
    """
    objects = []
    for number, row in enumerate(text.splitlines(), start=1):
        fields = row.split()
        if not fields:
            continue
        try:
            if len(fields) not in (15, 16):
                raise ValueError(f'{len(fields)} fields instead of 15')
            truncated, _, alpha, *rest = (float(v) for v in fields[1:15])
            occluded = int(fields[2])
        except ValueError as error:
            raise KittiFormatError(f'{source}, line {number}: {error}: {row!r}') from error
        objects.append(
            KittiObject(
                fields[0],
                truncated,
                occluded,
                alpha,
                tuple(rest[:4]),
                tuple(rest[4:7]),
                tuple(rest[7:10]),
                rest[10],
            )  # fmt: skip
        )
    return objects


def read_scan(path: str | Path) -> np.ndarray:
    """Reads a ``velodyne/*.bin`` as float32 (N, 4): x, y, z in metres, intensity 0 to 1.

    Raises:
        KittiFormatError: the file is missing, empty or cut in the middle of a point.
    """
    path = Path(path)
    if not path.is_file():
        raise KittiFormatError(f'{path}: scan is missing')
    size = path.stat().st_size
    if size == 0:
        raise KittiFormatError(f'{path}: scan is empty (0 bytes)')
    if size % 16:
        raise KittiFormatError(
            f'{path}: scan is truncated: {size} bytes is no multiple of 16 (4 float32 per point)'
        )
    return np.fromfile(path, dtype=np.float32).reshape(-1, 4)


def format_plane(plane: np.ndarray) -> str:
    """A plane n.x + d = 0 (4,), camera frame, n up, as the text of ``planes/*.txt``."""
    return '# Plane\nWidth 4\nHeight 1\n' + ' '.join(f'{v:.6e}' for v in plane) + '\n'


def parse_plane(text: str, source: str | Path = '<text>') -> np.ndarray:
    """Reads the text of ``planes/*.txt``, float64 (4,) with unit normal.

    Raises:
        KittiFormatError: the fourth line does not hold four numbers.
    """
    rows = text.splitlines()
    try:
        a, b, c, d = (float(v) for v in rows[3].split())
    except (IndexError, ValueError) as error:
        raise KittiFormatError(f'{source}: line 4 must hold the four numbers of a plane') from error
    return np.array([a, b, c, d])
