"""Transforms at the ends of the pipelines: boxes, two crops of one image, packed samples."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform, Compose
from mmcv.transforms.utils import cache_randomness
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample
from mmpose.structures.bbox import get_udp_warp_matrix, get_warp_matrix

from mmdistill.core.errors import UserError
from mmdistill.registry import TRANSFORMS

SECOND = 'second_crop'
META_KEYS = (
    'id', 'img_id', 'img_path', 'ori_shape', 'labeled', 'input_size', 'flip_indices',
    'hidden_keypoints', 'hidden_visible',
)  # fmt: skip


def flip_matrix(direction: str | None, width: int, height: int) -> np.ndarray:
    """(3, 3) map of the pixels of an image to those of its mirror image.

    Args:
        direction: mmpose's ``flip_direction``, None for no flip.
        width: of the image in pixels.
        height: of the image in pixels.
    """
    matrix = np.eye(3)
    if direction in ('horizontal', 'diagonal'):
        matrix[0] = -1, 0, width - 1
    if direction in ('vertical', 'diagonal'):
        matrix[1] = 0, -1, height - 1
    return matrix


def crop_matrix(results: Mapping[str, Any], use_udp: bool) -> np.ndarray:
    """The map from pixels of the image on the disk to pixels of the crop.

    It is the very matrix that mmpose's ``TopdownAffine`` warped the image with, times the flip
    before it. Its determinant is negative where left and right joints change places.

    Args:
        results: of a pipeline after ``TopdownAffine``.
        use_udp: as ``TopdownAffine`` has it.

    Returns:
        (2, 3) float32.
    """
    rotation = float(results['bbox_rotation'][0]) if 'bbox_rotation' in results else 0.0
    warp = get_udp_warp_matrix if use_udp else get_warp_matrix
    box = results['bbox_center'][0], results['bbox_scale'][0]
    matrix = warp(*box, rotation, output_size=tuple(results['input_size'])).astype(np.float64)
    direction = results.get('flip_direction') if results.get('flip') else None
    height, width = results['img_shape'][:2]
    return (matrix @ flip_matrix(direction, width, height)).astype(np.float32)


@TRANSFORMS.register_module()
class ClippedBBoxTransform(BaseTransform):
    """Scales and turns boxes by clipped normal numbers, as the published pose methods do.

    The defaults are those of the labelled and the easy view of DualPose: scale N(1, 0.25) clipped
    to [0.75, 1.25], in 60 % of the samples rotation N(0, 30) clipped to 60 degrees, no shift.
    mmpose's ``RandomBBoxTransform`` draws other distributions. Draws come from numpy's global
    generator, which the workers of a loader seed.

    Args:
        box_scale_std: standard deviation of the factor of the box, around 1.
        box_scale: lowest and highest factor; the person grows by its inverse.
        rotation_std: standard deviation of the angle in degrees.
        rotation_max: the angle is clipped to +-``rotation_max`` degrees.
        rotation_prob: probability of a rotation.

    Raises:
        UserError: a number out of range.
    """

    def __init__(
        self,
        box_scale_std: float = 0.25,
        box_scale: tuple[float, float] = (0.75, 1.25),
        rotation_std: float = 30.0,
        rotation_max: float = 60.0,
        rotation_prob: float = 0.6,
    ) -> None:
        if not 0 < box_scale[0] <= box_scale[1]:
            raise UserError(f'box_scale must be an increasing positive pair, got {box_scale}')
        if min(box_scale_std, rotation_std, rotation_max) < 0 or not 0 <= rotation_prob <= 1:
            raise UserError(
                'box_scale_std, rotation_std and rotation_max must be at least 0 and '
                f'rotation_prob in [0, 1], got {box_scale_std}, {rotation_std}, {rotation_max} '
                f'and {rotation_prob}'
            )
        self.box_scale_std, self.box_scale = box_scale_std, tuple(box_scale)
        self.rotation_std, self.rotation_max = rotation_std, rotation_max
        self.rotation_prob = rotation_prob

    @cache_randomness
    def _draw(self, boxes: int) -> tuple[np.ndarray, np.ndarray]:
        """(N, 1) factors of the boxes and (N,) angles in degrees, float32."""
        normal = np.random.standard_normal((2, boxes))  # noqa: NPY002
        chosen = np.random.random_sample(boxes) < self.rotation_prob  # noqa: NPY002
        scale = np.clip(1 + self.box_scale_std * normal[0], *self.box_scale)
        angle = np.clip(self.rotation_std * normal[1], -self.rotation_max, self.rotation_max)
        return scale[:, None].astype(np.float32), (angle * chosen).astype(np.float32)

    def transform(self, results: dict) -> dict:
        """Changes ``bbox_scale`` and adds ``bbox_rotation``."""
        scale, angle = self._draw(len(results['bbox_scale']))
        results['bbox_scale'] = results['bbox_scale'] * scale
        results['bbox_rotation'] = angle
        return results


@TRANSFORMS.register_module()
class SecondCrop(BaseTransform):
    """Cuts a second crop of the image just loaded, with random numbers of its own.

    Stands between ``LoadImage`` and the transforms of the first crop::

        [LoadImage, SecondCrop(transforms=[GetBBoxCenterScale, RandomFlip, ..., TopdownAffine]),
         GetBBoxCenterScale, RandomFlip, ..., TopdownAffine, PackSemiPose]

    ``PackSemiPose`` then makes ``inputs`` (2, 3, H, W) and ``crop`` (2, 2, 3), first crop first.
    Both crops have the same size; targets belong to the first.

    Args:
        transforms: those of the second crop, ending in ``TopdownAffine``.
    """

    def __init__(self, transforms: Sequence[dict]) -> None:
        self.transforms = Compose([TRANSFORMS.build(dict(each)) for each in transforms])

    def transform(self, results: dict) -> dict:
        """Adds the second crop; nothing else of ``results`` changes.

        Raises:
            UserError: the image is already flipped or cut.
        """
        for key in ('flip', 'bbox_rotation', 'input_size'):
            if key in results:
                raise UserError(f'SecondCrop must follow LoadImage directly, but {key!r} is set')
        second = self.transforms(copy.deepcopy(results))
        keep = ('img', 'bbox_center', 'bbox_scale', 'bbox_rotation', 'flip', 'flip_direction',
                'img_shape', 'ori_shape', 'input_size')  # fmt: skip
        results[SECOND] = {key: second[key] for key in keep if key in second}
        return results


@TRANSFORMS.register_module()
class PackSemiPose(BaseTransform):
    """Ends the pipeline of labelled and of unlabelled people.

    The sample is small (a crop of 256 x 192 pixels is pickled in less than 160 kB): no
    heatmaps, no raw annotations.

    ``inputs``: uint8 (3, H, W), the crop as it was loaded (BGR, not normalised); (2, 3, H, W)
    with :class:`SecondCrop`.

    ``data_samples``: a ``PoseDataSample`` with the meta entries ``id``, ``img_id``, ``img_path``,
    ``ori_shape``, ``labeled``, ``input_size`` (width, height), ``flip_indices``, ``crop``, and
    ``hidden_keypoints`` and ``hidden_visible`` where the dataset keeps them. ``crop`` is
    (2, 3) float32 and takes pixels of the image on the disk to pixels of the crop, flip
    included; (2, 2, 3) with :class:`SecondCrop`.

    ``data_samples.gt_instances`` of labelled people: ``keypoints`` (1, K, 2) float32 in pixels of
    the crop, ``keypoints_visible`` (1, K) float32, which mmpose's codecs start their weights
    from, and ``joint_weights`` (1, K) float32 of the dataset, by which mmpose multiplies them with
    ``use_dataset_keypoint_weights``. Unlabelled people have no ``gt_instances``.

    Args:
        use_udp: as ``TopdownAffine`` has it.
    """

    def __init__(self, use_udp: bool = False) -> None:
        self.use_udp = use_udp

    def transform(self, results: dict) -> dict[str, Any]:
        """Packs one sample.

        Raises:
            UserError: the image was resized before the crop, is not uint8 or has not three
                channels, or two crops have different sizes.
        """
        crops = [results, *filter(None, [results.get(SECOND)])]
        sample = PoseDataSample(metainfo={key: results[key] for key in META_KEYS if key in results})
        matrices = [self._matrix(each) for each in crops]
        images = [_image(each['img']) for each in crops]
        if len({image.shape for image in images}) > 1:
            raise UserError('both crops must have the same input_size in TopdownAffine')
        sample.set_metainfo({'crop': matrices[0] if len(crops) == 1 else np.stack(matrices)})
        if results['labeled']:
            sample.gt_instances = _instances(results)
        inputs = images[0] if len(crops) == 1 else np.stack(images)
        return dict(inputs=torch.from_numpy(np.ascontiguousarray(inputs)), data_samples=sample)

    def _matrix(self, results: Mapping) -> np.ndarray:
        """The crop's matrix, when nothing but flip and ``TopdownAffine`` moved pixels."""
        if 'input_size' not in results:
            raise UserError('PackSemiPose needs TopdownAffine before it')
        if tuple(results['img_shape'][:2]) != tuple(results['ori_shape'][:2]):
            raise UserError(
                f'the image was resized from {results["ori_shape"]} to {results["img_shape"]} '
                'before TopdownAffine: remove that transform'
            )
        return crop_matrix(results, self.use_udp)


def _image(image: np.ndarray) -> np.ndarray:
    """(3, H, W) view of a loaded crop."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f'PackSemiPose needs uint8 images of three channels, got {image.dtype} of shape '
            f"{image.shape}: use LoadImage with to_float32=False and color_type='color'"
        )
    return image.transpose(2, 0, 1)


def _instances(results: Mapping) -> InstanceData:
    """Joints of a labelled person in the crop."""
    visible = results['keypoints_visible']
    if visible.ndim == 3:
        visible = visible[..., 0]
    weights = np.broadcast_to(results['dataset_keypoint_weights'], visible.shape)
    instances = InstanceData()
    for name, value in (
        ('keypoints', results['transformed_keypoints'][..., :2]),
        ('keypoints_visible', visible),
        ('joint_weights', weights),
    ):
        instances.set_field(torch.from_numpy(np.array(value, np.float32)), name)
    return instances
