"""The handwritten digits that come with scikit-learn: 1797 images of 8 x 8 pixels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from mmdistill.core.errors import UserError
from mmkd.datasets.images import MemoryImages
from mmkd.datasets.subsets import meta_split
from mmkd.registry import DATASETS


@DATASETS.register_module()
class DigitsDataset(MemoryImages):
    """A fixed share of every digit to test with, the others to train; nothing is downloaded.

    A sample is ``dict(inputs=dict(pixel_values), labels)``: ``(1, 8, 8)`` float and the digit.
    Pixels have mean 0 and deviation 1 over the images to train with.

    Args:
        split: ``train`` or ``test``.
        test_share: of every digit's images, in (0, 1).
        seed: of the split.
        size: pixels of a side that images are enlarged to; None: 8.
        flat: inputs are ``numeric`` ``(64,)`` (or size squared) instead, for tabular networks.

    Raises:
        UserError: another split, a share out of (0, 1), or no scikit-learn.
    """

    def __init__(
        self,
        split: str,
        test_share: float = 0.3,
        seed: int = 0,
        size: int | None = None,
        flat: bool = False,
    ) -> None:
        if split not in ('train', 'test'):
            raise UserError(f'split of DigitsDataset is train or test, got {split!r}')
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise UserError(
                'DigitsDataset reads the digits of scikit-learn: pip install scikit-learn'
            ) from error
        found = load_digits()
        images = torch.from_numpy(found.images).float().unsqueeze(1)
        if size is not None:
            images = F.interpolate(images, size=(size, size), mode='bilinear')
        rows = dict(zip(('train', 'test'), meta_split(found.target, test_share, seed), strict=True))
        seen = images[rows['train']].double()
        self.flat = flat
        super().__init__(
            images[rows[split]],
            found.target[rows[split]].tolist(),
            tuple(map(str, found.target_names)),
            [float(seen.mean())],
            [float(seen.std(correction=0))],
        )
        self.metainfo['numeric'] = images[0].numel()

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample."""
        sample = super().__getitem__(index)
        if self.flat:
            sample['inputs'] = dict(numeric=sample['inputs']['pixel_values'].flatten())
        return sample
