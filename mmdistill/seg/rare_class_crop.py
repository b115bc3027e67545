"""Random crops that show enough of a drawn class."""

from typing import Any, ClassVar

import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import RandomCrop

from mmdistill.core.errors import UserError
from mmdistill.registry import TRANSFORMS

# ruff: noqa: NPY002  (the loaders seed numpy's global generator for every position)
CATEGORY_REDRAWS = 10
"""How often mmseg draws again for ``cat_max_ratio``."""


@TRANSFORMS.register_module()
class RareClassCrop(RandomCrop):
    """``RandomCrop`` that is drawn again until it shows enough of the drawn class.

    Enough is more than ``rare_class_pixels * min_crop_ratio`` pixels of ``rare_class``, which
    :class:`~mmdistill.seg.rare_class.RareClassDataset` puts into the sample; each try is a crop
    that ``RandomCrop`` could make, ``cat_max_ratio`` included. The last try is taken as it is.
    Samples without a drawn class are cropped as ``RandomCrop`` does it, with the same draws.

    Args:
        crop_size: height and width, or one number for both.
        cat_max_ratio: a crop is drawn again, 10 times at most, when one class fills this share
            of its labelled pixels.
        ignore_index: label that is no class.
        min_crop_ratio: share of ``rare_class_pixels`` that a crop must exceed; 0 takes the first
            crop.
        redraws: how often a crop is drawn again for its class.

    Raises:
        UserError: a number is out of range.
    """

    # a list of its own: the decorator below would enter the method twice in RandomCrop's
    _methods_with_randomness: ClassVar[list] = []

    def __init__(
        self,
        crop_size: int | tuple[int, int],
        cat_max_ratio: float = 1.0,
        ignore_index: int = 255,
        min_crop_ratio: float = 0.5,
        redraws: int = 10,
    ) -> None:
        if min(min_crop_ratio, redraws, ignore_index) < 0:
            raise UserError(
                f'min_crop_ratio {min_crop_ratio}, redraws {redraws} and ignore_index '
                f'{ignore_index} must not be negative'
            )
        size = crop_size if isinstance(crop_size, int) else tuple(crop_size)
        super().__init__(size, cat_max_ratio, ignore_index)
        self.min_crop_ratio, self.redraws = min_crop_ratio, redraws

    @cache_randomness
    def crop_bbox(self, results: dict) -> tuple[int, int, int, int]:
        """Draws the crop.

        Args:
            results: with ``img``, ``gt_seg_map`` and perhaps ``rare_class``.

        Returns:
            First and last row (exclusive), first and last column (exclusive).
        """
        box = self._try(results)
        wanted = results.get('rare_class')
        if wanted is None or self.min_crop_ratio == 0:
            return box
        least = results['rare_class_pixels'] * self.min_crop_ratio
        for _ in range(self.redraws):
            if np.count_nonzero(self.crop(results['gt_seg_map'], box) == wanted) > least:
                break
            box = self._try(results)
        return box

    def _try(self, results: dict) -> tuple[int, int, int, int]:
        """A crop of ``RandomCrop``; counting by bins is four times as fast as ``np.unique``."""
        box = self._draw(results['img'])
        for _ in range(CATEGORY_REDRAWS if self.cat_max_ratio < 1 else 0):
            label = self.crop(results['gt_seg_map'], box)
            counts = np.bincount(label.reshape(-1), minlength=self.ignore_index + 1)
            counts[self.ignore_index] = 0
            total = counts.sum()
            if np.count_nonzero(counts) > 1 and counts.max() / total < self.cat_max_ratio:
                break
            box = self._draw(results['img'])
        return box

    def _draw(self, image: np.ndarray) -> tuple[int, int, int, int]:
        """A box at a uniform place."""
        height, width = self.crop_size
        top = np.random.randint(max(image.shape[0] - height, 0) + 1)
        left = np.random.randint(max(image.shape[1] - width, 0) + 1)
        return top, top + height, left, left + width

    def __repr__(self) -> str:
        options: dict[str, Any] = dict(
            crop_size=self.crop_size,
            cat_max_ratio=self.cat_max_ratio,
            min_crop_ratio=self.min_crop_ratio,
            redraws=self.redraws,
        )
        return f'{type(self).__name__}({", ".join(f"{k}={v}" for k, v in options.items())})'
