"""Images in one folder per class, on disk or in a zip file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mmdistill.core.errors import UserError
from mmkd.datasets.images import MemoryImages
from mmkd.registry import DATASETS

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


@DATASETS.register_module()
class ImageDataset(MemoryImages):
    """Small images of equal size, ``SPLIT/CLASS/NAME.jpg``, decoded once and kept in memory.

    A sample is ``dict(inputs=dict(pixel_values), labels)``: ``(3, H, W)`` float, normalised, and
    the class. Images are moved and flipped at random in a training, see :class:`MemoryImages`.

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
        self.path = Path(data_root, path)
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
        images = _decoded(self.path, [file for file, _ in chosen])
        labels = [number for _, number in chosen]
        super().__init__(images, labels, names, mean, std, pad, flip)


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
