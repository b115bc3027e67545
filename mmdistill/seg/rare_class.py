"""Rare class sampling: images with rare classes are drawn more often (DAFormer, Sec. 3.3).

arXiv:2111.14887, Eq. 6 and 7. The statistics file comes from
``tools/dataset_converters/class_stats.py``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmdistill.registry import DATASETS
from mmdistill.seg.class_stats import COMMAND, ClassStats, StatsError, read_class_stats, rows_of
from mmdistill.seg.labels import IGNORED, label_table

# ruff: noqa: NPY002  (the loaders seed numpy's global generator for every position)


def class_frequencies(pixels: np.ndarray) -> np.ndarray:
    """Share of every class in the labelled pixels, Eq. 6.

    Args:
        pixels: (F, C) pixels per file and class.

    Returns:
        (C,) that sum up to 1.
    """
    total = pixels.sum(0, dtype=np.float64)
    return total / total.sum()


def class_probabilities(
    frequencies: np.ndarray, temperature: float, among: np.ndarray | None = None
) -> np.ndarray:
    """Probability of every class to be drawn, softmax((1 - f) / T), Eq. 7.

    Args:
        frequencies: (C,) of :func:`class_frequencies`.
        temperature: T; small ones prefer the rarest class, large ones draw all alike.
        among: (C,) bool, classes that can be drawn; None is those that occur.

    Returns:
        (C,) that sum up to 1, zero for the other classes.
    """
    among = frequencies > 0 if among is None else among
    score = np.where(among, (1 - frequencies) / temperature, -np.inf)
    weight = np.exp(score - score.max())
    return weight / weight.sum()


def mapped_pixels(
    pixels: np.ndarray,
    num_classes: int,
    label_map: Mapping[int, int] | None = None,
    reduce_zero_label: bool = False,
) -> np.ndarray:
    """Pixels per class after mmseg's loading has changed the ids.

    Args:
        pixels: (F, K) counted in the files.
        num_classes: number of classes C of the dataset.
        label_map: of the dataset.
        reduce_zero_label: of the dataset.

    Returns:
        (F, C).

    Raises:
        UserError: pixels of a class that the dataset does not have.
    """
    table = label_table(label_map, reduce_zero_label)
    counts = np.zeros((len(pixels), num_classes), np.int64)
    for old in pixels.any(0).nonzero()[0]:
        new = int(table[old])
        if new == IGNORED:
            continue
        if new >= num_classes:
            raise StatsError(f'it counts pixels of class {old}, the dataset has {num_classes}')
        counts[:, new] += pixels[:, old]
    return counts


@DATASETS.register_module()
class RareClassDataset(Dataset):
    """Draws a class, the rare ones more often, and then an image that shows enough of it.

    The index of a sample has no meaning: which sample comes is drawn from numpy's global
    generator, which the loaders of this package seed for every position, so that a resumed run
    sees the same images. The pipeline gets the class as ``rare_class`` and ``min_pixels`` as
    ``rare_class_pixels``, for :class:`~mmdistill.seg.rare_class_crop.RareClassCrop`.

    Frequencies are those of the label files of ``dataset``, not of everything the statistics
    list. A class that no image shows enough of cannot be drawn; a warning names it.

    Args:
        dataset: config of a labelled dataset of mmseg.
        class_stats: statistics file of its labels.
        min_pixels: an image is drawn for a class when its label holds more pixels of it.
        temperature: T of :func:`class_probabilities`.
        lazy_init: read files when they are needed first.

    Attributes:
        dataset: the dataset.
        metainfo: of the dataset.
        probabilities: (C,) of the classes.
        images_of: indices of the images that are drawn for each class.

    Raises:
        UserError: a number is out of range, the dataset has no labels, the statistics are
            missing, empty or another dataset's, or no class can be drawn.
    """

    def __init__(
        self,
        dataset: dict,
        class_stats: str,
        min_pixels: int = 3000,
        temperature: float = 0.01,
        lazy_init: bool = False,
    ) -> None:
        if temperature <= 0 or min_pixels < 0:
            raise UserError(
                f'temperature {temperature} must be positive and min_pixels {min_pixels} not '
                'negative'
            )
        self.dataset = DATASETS.build(dict(dataset))
        self.class_stats, self.min_pixels, self.temperature = class_stats, min_pixels, temperature
        self.probabilities = np.empty(0)
        self.images_of: list[np.ndarray] = []
        if not lazy_init:
            self.full_init()

    @property
    def metainfo(self) -> Mapping:
        """Meta information of the dataset."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Lists the samples and reads the statistics if that has not been done."""
        if self.images_of:
            return
        self.dataset.full_init()
        pixels = self._pixels(read_class_stats(self.class_stats))
        enough = pixels > self.min_pixels
        able = enough.any(0)
        if not able.any():
            raise UserError(
                f'{self.class_stats}: no image shows more than min_pixels={self.min_pixels} '
                f'pixels of any class, the most is {pixels.max()}; lower min_pixels'
            )
        names = self.metainfo['classes']
        lost = [names[c] for c in (pixels.any(0) & ~able).nonzero()[0]]
        if lost:
            print_log(
                f'never drawn, as no image shows more than {self.min_pixels} pixels of it: '
                f'{", ".join(lost)}',
                logger='current',
                level=30,
            )
        self.probabilities = class_probabilities(class_frequencies(pixels), self.temperature, able)
        self.images_of = [each.nonzero()[0] for each in enough.T]

    def _pixels(self, stats: ClassStats) -> np.ndarray:
        """(len(dataset), C) pixels of every sample."""
        where, data = self.class_stats, self.dataset
        infos = [data.get_data_info(index) for index in range(len(data))]
        paths = [info.get('seg_map_path') for info in infos]
        if not paths or None in paths:
            raise UserError(
                f'{where}: rare classes need a dataset with labels; give data_prefix of the '
                'dataset a seg_map_path'
            )
        rows = rows_of(stats, paths)
        if (rows < 0).any():
            missing = (rows < 0).nonzero()[0]
            raise StatsError(
                f'{where}: {len(missing)} of {len(paths)} label files of the dataset are not in '
                f'it, for instance {paths[missing[0]]}; it belongs to other data or is old. Make '
                f'it with {COMMAND}'
            )
        info = infos[0]
        count = len(self.metainfo['classes'])
        try:
            return mapped_pixels(
                stats.pixels[rows], count, info.get('label_map'), info.get('reduce_zero_label')
            )
        except StatsError as error:
            raise StatsError(f'{where}: {error}; it belongs to other data') from None

    def draw(self) -> tuple[int, int]:
        """Draws a class and an image that shows more than ``min_pixels`` pixels of it.

        Returns:
            The class and the index of the image.
        """
        self.full_init()
        chosen = int(np.random.choice(len(self.probabilities), p=self.probabilities))
        images = self.images_of[chosen]
        return chosen, int(images[np.random.randint(len(images))])

    def __len__(self) -> int:
        return len(self.dataset)

    def get_data_info(self, index: int) -> dict[str, Any]:
        """What the dataset knows about its sample number ``index``."""
        return self.dataset.get_data_info(index)

    def __getitem__(self, index: int) -> Any:
        """A drawn sample after the pipeline; ``index`` only ends the iteration.

        Raises:
            UserError: the pipeline gives nothing.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        chosen, place = self.draw()
        info = self.dataset.get_data_info(place)
        path = info['img_path']
        info.update(rare_class=chosen, rare_class_pixels=self.min_pixels)
        sample = self.dataset.pipeline(info)
        if sample is None:
            raise UserError(f'{path}: the pipeline returned nothing')
        return sample
