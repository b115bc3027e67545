"""Large images in one folder per class, as ImageNet has them, read one by one."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmkd.datasets.image_dataset import SUFFIXES
from mmkd.registry import DATASETS

RATIOS = (3 / 4, 4 / 3)
"""Width over height of a random part, at least and at most."""
TRIES = 10


def random_part(width: int, height: int, scale: Sequence[float]) -> tuple[int, int, int, int]:
    """A random part of an image (arXiv:1409.4842): left, top, width, height.

    Args:
        width: of the image, in pixels.
        height: of the image.
        scale: share of the image's area, at least and at most.
    """
    for _ in range(TRIES):
        share, shape, left, top = torch.rand(4).tolist()
        area = width * height * (scale[0] + share * (scale[1] - scale[0]))
        low, high = map(math.log, RATIOS)
        ratio = math.exp(low + shape * (high - low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(left * (width - w + 1)), int(top * (height - h + 1)), w, h
    return middle_part(width, height, min(width, height))


def middle_part(width: int, height: int, side: int) -> tuple[int, int, int, int]:
    """The square in the middle: left, top, width, height."""
    return (width - side) // 2, (height - side) // 2, side, side


@DATASETS.register_module()
class ImageFolder(Dataset):
    """``SPLIT/CLASS/NAME.jpg`` below a folder; images are read when they are asked for.

    A sample is ``dict(inputs=dict(pixel_values), labels)``: ``(3, size, size)`` float, normalised.

    Args:
        data_root: the folder.
        split: folder with the classes.
        classes: in the order of the network's outputs; None: sorted names of the folders.
        size: pixels of a side.
        augment: a random part, mirrored half of the time; else the middle of the image.
        scale: share of the area of a random part.
        middle: share of the shorter side that the middle has; 224 of 256 as is usual.
        mean: of red, green and blue, in [0, 255].
        std: alike.

    Raises:
        UserError: no such folder or class, no image, or, when it is asked for, one that cannot be
            read.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        classes: Sequence[str] | None = None,
        size: int = 224,
        augment: bool = False,
        scale: Sequence[float] = (0.08, 1.0),
        middle: float = 0.875,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        folder = Path(data_root, split)
        if not folder.is_dir():
            raise UserError(f'{folder}: there is no such folder')
        there = sorted(each.name for each in folder.iterdir() if each.is_dir())
        names = there if classes is None else list(classes)
        for name in names:
            if name not in there:
                raise UserError(f'{folder}: there is no class {name!r}; there are {there[:5]} ...')
        files = [sorted(p for p in (folder / name).iterdir() if _is_image(p)) for name in names]
        for name, some in zip(names, files, strict=True):
            if not some:
                raise UserError(f'{folder / name}: there is no image in it')
        if not names:
            raise UserError(f'{folder}: there is no folder of a class in it')
        self.files = [path for some in files for path in some]
        counts = torch.tensor([len(some) for some in files])
        self.labels: Tensor = torch.repeat_interleave(torch.arange(len(names)), counts)
        self.metainfo = dict(classes=tuple(names))
        self.size, self.augment, self.scale, self.middle = size, augment, tuple(scale), middle
        self.mean, self.std = (torch.tensor(each).view(3, 1, 1) for each in (mean, std))

    @property
    def changes_samples(self) -> bool:
        """Whether an image is another one each time."""
        return self.augment

    def unchanged(self) -> ImageFolder:
        """The same images without what changes them at random."""
        same = copy.copy(self)
        same.augment = False
        return same

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample."""
        path = self.files[index]
        try:
            with Image.open(path) as file:
                image = file.convert('RGB')
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f'{path}: no image that can be read: {error}') from error
        if self.augment:
            part = random_part(*image.size, self.scale)
        else:
            part = middle_part(*image.size, round(self.middle * min(image.size)))
        left, top, width, height = part
        box = (left, top, left + width, top + height)
        small = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1).float()
        if self.augment and torch.rand(()) < 0.5:
            pixels = pixels.flip(-1)
        pixels = ((pixels - self.mean) / self.std).contiguous()
        return dict(inputs=dict(pixel_values=pixels), labels=int(self.labels[index]))


def _is_image(path: Path) -> bool:
    """Whether the name is one of an image."""
    return path.suffix.lower() in SUFFIXES
