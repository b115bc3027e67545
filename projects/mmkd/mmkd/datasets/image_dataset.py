"""Images in one folder per class, on disk or in a zip file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmkd.registry import DATASETS

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


@DATASETS.register_module()
class ImageDataset(Dataset):
    """Small images of equal size, ``SPLIT/CLASS/NAME.jpg``, decoded once and kept in memory.

    A sample is ``dict(inputs=dict(pixel_values), labels)``: ``(3, H, W)`` float, normalised, and
    the class. Images are moved and flipped at random in a training.

    Args:
        path: a folder or a zip file that has the split's folder somewhere.
        split: name of the folder with the classes.
        classes: in the order of the network's outputs; None: sorted names of the folders.
        pad: pixels by which an image may be moved in every direction; 0: not at all.
        flip: flips half of the images.
        mean: of red, green and blue, in [0, 255].
        std: alike.
        per_class: images of a class that are used, the first in the order of their names; None:
            all.
        data_root: folder of a path that is not absolute.

    Raises:
        UserError: no such file, split or class, an image that cannot be read, or another size.
    """

    def __init__(
        self,
        path: str,
        split: str,
        classes: Sequence[str] | None = None,
        pad: int = 0,
        flip: bool = False,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        per_class: int | None = None,
        data_root: str = '',
    ) -> None:
        self.path, self.pad, self.flip = Path(data_root, path), pad, flip
        if not self.path.exists():
            raise UserError(f'{self.path}: there is no such file')
        files = _files(self.path, split)
        names = sorted(files) if classes is None else list(classes)
        for name in names:
            if name not in files:
                raise UserError(
                    f'{self.path}: {split} has no class {name!r}; there are {sorted(files)}'
                )
        chosen = [(file, n) for n, name in enumerate(names) for file in files[name][:per_class]]
        self.images = _decoded(self.path, [file for file, _ in chosen])
        self.labels = [number for _, number in chosen]
        self.metainfo = dict(classes=tuple(names))
        self.mean, self.std = (torch.tensor(each).view(3, 1, 1) for each in (mean, std))

    @property
    def changes_samples(self) -> bool:
        """Whether an image is another one each time."""
        return bool(self.pad or self.flip)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample."""
        image = (self.images[index] - self.mean) / self.std
        if self.pad:
            height, width = image.shape[-2:]
            wide = torch.nn.functional.pad(image, [self.pad] * 4)
            top, left = torch.randint(2 * self.pad + 1, (2,)).tolist()
            image = wide[:, top : top + height, left : left + width]
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(-1)
        return dict(inputs=dict(pixel_values=image.contiguous()), labels=self.labels[index])


def _files(path: Path, split: str) -> dict[str, list[str]]:
    """Names of the image files of a split by class, sorted."""
    if path.is_dir():
        names = [each.relative_to(path).as_posix() for each in path.rglob('*') if each.is_file()]
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            raise UserError(f'{path}: neither a folder nor a whole zip file: {error}') from error
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        parts = PurePosixPath(name).parts
        if len(parts) >= 3 and parts[-3] == split and name.lower().endswith(SUFFIXES):
            found.setdefault(parts[-2], []).append(name)
    if not found:
        raise UserError(f'{path}: there is no {split}/CLASS/NAME.jpg in it')
    return found


def _decoded(path: Path, names: Sequence[str]) -> Tensor:
    """All images as ``(N, 3, H, W)`` bytes."""
    archive = None if path.is_dir() else zipfile.ZipFile(path)
    images: list[np.ndarray] = []
    try:
        for name in names:
            content = (path / name).read_bytes() if archive is None else archive.read(name)
            try:
                image = np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))
            except (UnidentifiedImageError, OSError) as error:
                raise UserError(f'{path}: {name} is no image that can be read: {error}') from error
            if images and image.shape != images[0].shape:
                raise UserError(
                    f'{path}: {name} has {image.shape[:2]} pixels, the others '
                    f'{images[0].shape[:2]}; bring them to one size'
                )
            images.append(image)
    finally:
        if archive is not None:
            archive.close()
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
