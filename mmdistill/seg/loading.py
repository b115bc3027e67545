"""Loading images and labels with one clear error for every broken file."""

from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get as get_bytes
from mmseg.datasets.transforms import LoadAnnotations

from mmdistill.core.errors import UserError
from mmdistill.registry import TRANSFORMS
from mmdistill.seg.labels import IGNORED, label_table

PNG = b'\x89PNG\r\n\x1a\n'


def read_image(
    path: str, what: str, flag: str, backend: str, backend_args: dict | None
) -> np.ndarray:
    """Reads and decodes a file.

    Args:
        path: of the file.
        what: ``'image'`` or ``'label'``, for the messages.
        flag: of ``mmcv.imfrombytes``.
        backend: that decodes.
        backend_args: of the file backend.

    Raises:
        UserError: the file is missing, empty, cut off or no picture.
    """
    try:
        data = get_bytes(path, backend_args=backend_args)
    except FileNotFoundError as error:
        raise UserError(
            f'{path}: this {what} is missing; check data_root and data_prefix'
        ) from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f'{path}: this {what} cannot be read ({reason})') from error
    if not data or (data[:8] == PNG and b'IEND' not in data[-1024:]):
        state = 'cut off' if data else 'empty'
        raise UserError(f'{path}: this {what} is {state}; copy the file again')
    try:
        pixels = mmcv.imfrombytes(data, flag=flag, backend=backend)
    except Exception as error:  # decoders raise whatever they like
        raise UserError(f'{path}: this {what} cannot be decoded ({error})') from error
    if pixels is None:
        raise UserError(f'{path}: this {what} cannot be decoded; copy the file again')
    return pixels


@TRANSFORMS.register_module()
class CheckedSegImage(LoadImageFromFile):
    """``LoadImageFromFile`` that names the file that is missing or broken.

    Args:
        to_float32: convert to float32.
        color_type: flag of ``mmcv.imfrombytes``.
        imdecode_backend: that decodes.
        backend_args: of the file backend.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = 'color',
        imdecode_backend: str = 'cv2',
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(
            to_float32=to_float32,
            color_type=color_type,
            imdecode_backend=imdecode_backend,
            backend_args=backend_args,
        )

    def transform(self, results: dict) -> dict:
        """Adds ``img`` (H, W, 3), ``img_shape`` and ``ori_shape``.

        Raises:
            UserError: see :func:`read_image`.
        """
        image = read_image(
            results['img_path'], 'image', self.color_type, self.imdecode_backend, self.backend_args
        )
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class CheckedSegAnnotations(LoadAnnotations):
    """``LoadAnnotations`` of mmseg that finds labels which training must not see.

    Ids are mapped by the dataset's ``label_map`` and ``reduce_zero_label`` as mmseg does it, by
    one look-up, and checked afterwards. The check costs about a hundredth of the decoding.

    Args:
        num_classes: ids 0 to ``num_classes - 1`` are classes, 255 is ignored.
        imdecode_backend: that decodes; ``'cv2'`` turns palette files into colours.
        backend_args: of the file backend.
    """

    def __init__(
        self,
        num_classes: int,
        imdecode_backend: str = 'pillow',
        backend_args: dict | None = None,
    ) -> None:
        if not 0 < num_classes < IGNORED:
            raise UserError(f'num_classes must lie between 1 and 254, got {num_classes!r}')
        super().__init__(imdecode_backend=imdecode_backend, backend_args=backend_args)
        self.num_classes = num_classes

    def _load_seg_map(self, results: dict) -> None:
        """Adds ``gt_seg_map`` (H, W) uint8.

        Raises:
            UserError: the sample has no label, the file is missing or broken, has several
                channels, another size than the image, or an id that is no class.
        """
        path = results.get('seg_map_path')
        if path is None:
            raise UserError(
                f'{results.get("img_path")}: this sample has no label; leave '
                f'{type(self).__name__} out of the pipeline of an unlabelled dataset'
            )
        label = read_image(path, 'label', 'unchanged', self.imdecode_backend, self.backend_args)
        label = label[..., 0] if label.ndim == 3 and label.shape[2] == 1 else label
        if label.ndim != 2:
            raise UserError(
                f'{path}: this label has {label.shape[2]} channels; convert it to one channel of '
                'class ids'
            )
        size = results.get('ori_shape', label.shape)
        if label.shape != tuple(size[:2]):
            raise UserError(
                f'{path}: this label is {label.shape[1]}x{label.shape[0]} pixels, but the image '
                f'{results.get("img_path")} {size[1]}x{size[0]}; resize or remove one of them'
            )
        if label.dtype != np.uint8:
            if label.size and not 0 <= label.min() <= label.max() <= IGNORED:
                raise self._wrong_id(path, label[(label < 0) | (label > IGNORED)][0])
            label = label.astype(np.uint8)
        label_map, reduce = results.get('label_map'), bool(results.get('reduce_zero_label'))
        if label_map or reduce:
            label = label_table(label_map, reduce).take(label)
        # one up, 255 becomes 0: a wrong id is what is left above num_classes
        if label.size and (label + np.uint8(1)).max() > self.num_classes:
            raise self._wrong_id(path, label[(label >= self.num_classes) & (label != IGNORED)][0])
        results['gt_seg_map'] = label
        results.setdefault('seg_fields', []).append('gt_seg_map')

    def _wrong_id(self, path: str, found: Any) -> UserError:
        """The error for an id that is no class."""
        return UserError(
            f'{path}: label id {int(found)} is none of the {self.num_classes} classes and not '
            f'{IGNORED}; convert the labels to train ids, or correct num_classes'
        )

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_classes={self.num_classes})'
