"""Info files and predictions of mmdet3d as annotations in KITTI's camera frame."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmdet3d.structures import (
    Box3DMode,
    CameraInstance3DBoxes,
    LiDARInstance3DBoxes,
    points_cam2img,
)
from torch import Tensor


def ground_truth_anno(info: Mapping, names: Mapping[int, str]) -> dict[str, np.ndarray]:
    """Reads the objects of a frame.

    Args:
        info: An entry of ``data_list`` of an info file (mmdet3d 1.x), boxes in the camera frame.
        names: Label number -> class name; -1 is DontCare if it isn't listed.

    Returns:
        The annotation, as :func:`mmdistill.det3d.kitti_eval.evaluate_frames` takes it.

    Raises:
        KeyError: If the frame has no ``instances``, an instance lacks a field or its label is
            not in ``names``.
    """
    if 'instances' not in info:
        raise KeyError(
            f'frame {info.get("sample_idx")} of the info file has no "instances" to evaluate '
            'against; for a split without labels use format_only=True'
        )
    names = {-1: 'DontCare', **names}
    instances = info['instances']
    boxes = _rows([instance['bbox_3d'] for instance in instances], 7)
    return {
        'name': np.array([names[instance['bbox_label']] for instance in instances], dtype=str),
        'bbox': _rows([instance['bbox'] for instance in instances], 4),
        'location': boxes[:, :3],
        'dimensions': boxes[:, 3:6],
        'rotation_y': boxes[:, 6],
        **{
            key: np.array([instance[key] for instance in instances], dtype=np.float64)
            for key in ('alpha', 'truncated', 'occluded')
        },
    }


def prediction_anno(
    prediction: Mapping,
    info: Mapping,
    classes: Sequence[str],
    camera: str = 'CAM2',
    limit_range: Sequence[float] | None = None,
    in_image_only: bool = True,
) -> dict[str, np.ndarray]:
    """Moves the 3D predictions of a frame to the camera and projects them, as mmdet3d does.

    Args:
        prediction: ``bboxes_3d`` (LiDAR or camera boxes of mmdet3d), ``scores_3d`` (N,) and
            ``labels_3d`` (N,).
        info: The frame's entry of ``data_list``, of which ``images[camera]`` gives ``lidar2cam``,
            ``cam2img``, ``height`` and ``width``.
        classes: Names of the labels.
        camera: Key of the camera.
        limit_range: Least and greatest x, y, z of the bottom centres of LiDAR boxes to keep.
        in_image_only: Whether to drop boxes whose projection misses the image, which has no
            labels there. Otherwise they get the whole image as 2D box, so that no height
            makes them tolerated.

    Returns:
        The annotation, as :func:`mmdistill.det3d.kitti_eval.evaluate_frames` takes it.

    Raises:
        KeyError: If the info has no such camera.
        TypeError: If the boxes are neither LiDAR nor camera boxes.
        ValueError: If a label is no index into ``classes``.
    """
    if camera not in info.get('images', {}):
        raise KeyError(
            f'frame {info.get("sample_idx")} of the info file has no camera {camera!r}, only '
            f'{sorted(info.get("images", {}))}; set default_cam_key'
        )
    view, boxes = info['images'][camera], prediction['bboxes_3d']
    if not isinstance(boxes, LiDARInstance3DBoxes | CameraInstance3DBoxes):
        raise TypeError(f'bboxes_3d must be LiDAR or camera boxes, got {type(boxes).__name__}')
    boxes = boxes.clone()
    boxes.limit_yaw(offset=0.5, period=2 * math.pi)
    in_camera, in_lidar = _in_both_frames(boxes, np.asarray(view['lidar2cam'], np.float32))
    height, width = view['height'], view['width']
    pixels = _projected(in_camera, np.asarray(view['cam2img'], np.float32))
    seen = (pixels[:, :2] < pixels.new_tensor([width, height])).all(1) & (pixels[:, 2:] > 0).all(1)
    keep = seen if in_image_only else torch.ones_like(seen)
    if limit_range is not None and isinstance(boxes, LiDARInstance3DBoxes):
        low, high = in_lidar.new_tensor(list(limit_range)).view(2, 3)
        keep = keep & ((in_lidar[:, :3] > low) & (in_lidar[:, :3] < high)).all(1)
    whole = pixels.new_tensor([0, 0, width, height])
    pixels = torch.where(seen[:, None], pixels, whole)
    pixels = torch.cat((pixels[:, :2].clamp(min=0), torch.minimum(pixels[:, 2:], whole[2:])), 1)
    place = in_camera.tensor
    if isinstance(boxes, LiDARInstance3DBoxes):
        bearing = torch.atan2(-in_lidar[:, 1], in_lidar[:, 0])
    else:
        bearing = torch.atan2(place[:, 0], place[:, 2])
    columns = {
        'bbox': pixels,
        'location': place[:, :3],
        'dimensions': place[:, 3:6],
        'rotation_y': place[:, 6],
        'alpha': place[:, 6] - bearing,
        'score': prediction['scores_3d'],
    }
    anno = {key: value[keep].double().numpy() for key, value in columns.items()}
    return {'name': _named(prediction['labels_3d'][keep], classes), **anno}


def prediction_anno_2d(prediction: Mapping, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Turns the 2D predictions of a frame into an annotation without 3D boxes.

    Args:
        prediction: ``bboxes`` (N, 4) in pixels, ``scores`` (N,) and ``labels`` (N,).
        classes: Names of the labels.

    Returns:
        The annotation, as :func:`mmdistill.det3d.kitti_eval.evaluate_frames` takes it for 2D.

    Raises:
        ValueError: If a label is no index into ``classes``.
    """
    return {
        'name': _named(prediction['labels'], classes),
        'bbox': prediction['bboxes'][:, :4].double().numpy(),
        'score': prediction['scores'].double().numpy(),
    }


def submission_lines(anno: Mapping[str, np.ndarray]) -> list[str]:
    """Formats detections for KITTI's test server.

    Args:
        anno: Detections of a frame; without 3D boxes the server's placeholders are written.

    Returns:
        One line per detection: name, truncation, occlusion, alpha, left, top, right, bottom,
        height, width, length, x, y, z, rotation_y, score.
    """
    count = len(anno['name'])
    unknown = np.full((count, 3), [-1.0, -1.0, -1.0])
    numbers = np.column_stack(
        (
            anno.get('alpha', np.full(count, -10.0)),
            anno['bbox'],
            anno.get('dimensions', unknown)[:, [1, 2, 0]],
            anno.get('location', unknown * 1000),
            anno.get('rotation_y', np.full(count, -10.0)),
            anno['score'],
        )
    )
    rows = zip(anno['name'], numbers, strict=True)
    return [f'{name} -1 -1 ' + ' '.join(f'{value:.4f}' for value in row) for name, row in rows]


def _named(labels: Tensor, classes: Sequence[str]) -> np.ndarray:
    """Class names of labels."""
    numbers = labels.tolist()
    wrong = [label for label in numbers if not 0 <= label < len(classes)]
    if wrong:
        raise ValueError(
            f'predicted label {wrong[0]}, but the dataset has the classes {list(classes)}; '
            'its metainfo and the model must list the same classes'
        )
    return np.array([classes[label] for label in numbers], dtype=str)


def _in_both_frames(boxes, lidar2cam: np.ndarray) -> tuple[CameraInstance3DBoxes, Tensor]:
    """The boxes as camera boxes, and their numbers in the LiDAR frame."""
    if isinstance(boxes, LiDARInstance3DBoxes):
        return boxes.convert_to(Box3DMode.CAM, lidar2cam), boxes.tensor
    return boxes, boxes.convert_to(Box3DMode.LIDAR, np.linalg.inv(lidar2cam)).tensor


def _projected(boxes: CameraInstance3DBoxes, cam2img: np.ndarray) -> Tensor:
    """Left, top, right, bottom ``(N, 4)`` of the projected corners."""
    corners = boxes.corners
    if not len(corners):
        return boxes.tensor.new_zeros(0, 4)
    pixels = points_cam2img(corners, corners.new_tensor(cam2img))
    return torch.cat((pixels.amin(1), pixels.amax(1)), 1)


def _rows(values: list, width: int) -> np.ndarray:
    """A float64 matrix, also of no rows."""
    return np.array(values, dtype=np.float64).reshape(len(values), width)
