"""Annotations of frames in KITTI's camera frame, checked and joined to flat arrays."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

_WIDTHS = {'bbox': 4, 'location': 3, 'dimensions': 3}
_ALWAYS = ('name', 'bbox')
_THREE_D = ('location', 'dimensions', 'rotation_y')
_NO_ALPHA = -10.0


@dataclass(frozen=True)
class Frames:
    """Boxes of many frames, one after the other.

    Attributes:
        start: ``(F + 1,)`` int64; frame f owns the boxes ``start[f]:start[f + 1]``.
        name: ``(N,)`` class names in lower case.
        bbox: ``(N, 4)`` left, top, right, bottom in pixels.
        location: ``(N, 3)`` bottom centres in the camera frame, metres.
        dimensions: ``(N, 3)`` length, height, width in metres.
        rotation_y: ``(N,)`` heading about the camera's y axis, radians.
        alpha: ``(N,)`` observation angle, radians; -10 where unknown.
        truncated: ``(N,)`` share outside the image.
        occluded: ``(N,)`` 0 visible, 1 partly, 2 largely occluded, 3 unknown.
        score: ``(N,)`` confidence.
    """

    start: np.ndarray
    name: np.ndarray
    bbox: np.ndarray
    location: np.ndarray
    dimensions: np.ndarray
    rotation_y: np.ndarray
    alpha: np.ndarray
    truncated: np.ndarray
    occluded: np.ndarray
    score: np.ndarray

    @property
    def has_alpha(self) -> bool:
        """Whether any box has an observation angle."""
        return bool((self.alpha != _NO_ALPHA).any())


def stack_frames(
    gt_annos: Sequence[Mapping] | Mapping,
    dt_annos: Sequence[Mapping] | Mapping,
    three_d: bool = True,
) -> tuple[Frames, Frames]:
    """Joins the annotations of corresponding frames.

    Detections with a score or box that is not finite are dropped, with one warning.

    Args:
        gt_annos: Ground truth per frame, a sequence or a mapping from frame ids.
        dt_annos: Detections per frame, in the same order or with the same ids.
        three_d: Whether the 3D boxes are needed.

    Returns:
        Ground truth and detections, with the same frames.

    Raises:
        KeyError: If an annotation lacks a key.
        ValueError: If frames do not correspond or arrays disagree in length.
    """
    ids, gts, dts = _corresponding(gt_annos, dt_annos)
    keys = (*_ALWAYS, *(_THREE_D if three_d else ()))
    gt = _stack(gts, ids, 'ground truth', (*keys, 'truncated', 'occluded'))
    dt = _stack(dts, ids, 'detections', (*keys, 'score'))
    return gt, _finite(dt)


def _corresponding(gt_annos, dt_annos) -> tuple[list, list, list]:
    """Ids, ground truths and detections of the frames, in one order."""
    if isinstance(gt_annos, Mapping) != isinstance(dt_annos, Mapping):
        raise ValueError(
            'give both ground truth and detections as mappings from frame ids, or none'
        )
    if isinstance(gt_annos, Mapping):
        missing = [i for i in gt_annos if i not in dt_annos]
        strange = [i for i in dt_annos if i not in gt_annos]
        if missing or strange:
            raise ValueError(
                f'detections and ground truth are of different frames: {len(missing)} frames have '
                f'no detections entry (first {missing[:3]}), {len(strange)} have no ground truth '
                f'(first {strange[:3]}). A frame where nothing was found needs empty arrays'
            )
        return list(gt_annos), list(gt_annos.values()), [dt_annos[i] for i in gt_annos]
    if len(gt_annos) != len(dt_annos):
        raise ValueError(
            f'{len(gt_annos)} frames of ground truth, but {len(dt_annos)} of detections. A frame '
            'where nothing was found needs an entry with empty arrays'
        )
    for number, (gt, dt) in enumerate(zip(gt_annos, dt_annos, strict=True)):
        own, other = _frame_id(gt), _frame_id(dt)
        if own is not None and other is not None and own != other:
            raise ValueError(
                f'frame {number} is {own!r} in the ground truth, {other!r} in detections'
            )
    return list(range(len(gt_annos))), list(gt_annos), list(dt_annos)


def _frame_id(anno: Mapping):
    """The id that an annotation names (mmdet3d: once per box), None where it names none."""
    for key in ('frame_id', 'sample_idx'):
        value = np.ravel(anno.get(key, ()))
        if len(value):
            return value[0].item()
    return None


def _stack(annos: list, ids: list, what: str, required: Sequence[str]) -> Frames:
    """Checks the annotations of one side and joins them."""
    counts = []
    for frame, anno in zip(ids, annos, strict=True):
        missing = [key for key in required if key not in anno]
        if missing:
            raise KeyError(f'{what} of frame {frame!r} lack {missing}, there is {sorted(anno)}')
        counts.append(len(anno['name']))
        for field in fields(Frames):
            length = len(anno.get(field.name, anno['name']))
            if length != counts[-1]:
                raise ValueError(
                    f'{what} of frame {frame!r}: {counts[-1]} names but {length} of {field.name!r}'
                )
    columns = {
        field.name: _column(annos, counts, field.name, what)
        for field in fields(Frames)
        if field.name not in ('start', 'name')
    }
    names = [str(name).lower() for anno in annos for name in anno['name']]
    start = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return Frames(start=start, name=np.array(names, dtype=str), **columns)


def _column(annos: list, counts: list[int], key: str, what: str) -> np.ndarray:
    """One float64 array over all frames; what is absent is unknown (alpha) or zero."""
    width = _WIDTHS.get(key)
    shape = (-1,) if width is None else (-1, width)
    absent = _NO_ALPHA if key == 'alpha' else 0.0
    parts = [np.zeros(0)]
    for anno, count in zip(annos, counts, strict=True):
        size = count * (width or 1)
        part = np.asarray(anno.get(key, np.full(size, absent)), dtype=np.float64)
        if part.size != size:
            raise ValueError(f'{what}: {key!r} must be {(count, width)}, got {part.shape}')
        parts.append(part.reshape(-1))
    return np.concatenate(parts).reshape(shape)


def _finite(frames: Frames) -> Frames:
    """Drops boxes with numbers that are not finite."""
    numbers = [frames.score, frames.rotation_y, *frames.bbox.T]
    numbers += [*frames.location.T, *frames.dimensions.T]
    good = np.isfinite(np.stack(numbers)).all(0)
    if good.all():
        return frames
    warnings.warn(f'{(~good).sum()} detections with inf or nan are left out of the evaluation')
    kept = np.concatenate(([0], np.cumsum(good)))
    parts = {
        field.name: getattr(frames, field.name)[good]
        for field in fields(Frames)
        if field.name != 'start'
    }
    return Frames(start=kept[frames.start].astype(np.int64), **parts)
