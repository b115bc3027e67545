"""Labels of unlabelled images, for pictures: read beside the training, never in it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mmdistill.core.collate import branch_collate
from mmdistill.core.errors import UserError
from mmdistill.core.positioned_data import PositionedFetch
from mmdistill.registry import DATASETS
from mmdistill.seg.seg_batch import SegBatch
from mmdistill.seg.semi_seg import SemiSeg


class HiddenLabels:
    """The data set of an :class:`~mmdistill.seg.unlabeled.UnlabeledSegDataset` with its labels.

    Images and labels go through the transforms that training has for the images; with the same
    seed the crops and flips are the same, which is checked.

    Args:
        dataset: of unlabelled images, built again with labels.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    @classmethod
    def find(cls, config: Mapping, source: int, truth: str | None = None) -> HiddenLabels | None:
        """Labels of the unlabelled source of a training.

        Args:
            config: of the training's data set, a ``ConcatDataset``.
            source: index of the unlabelled part.
            truth: ``seg_map_path`` of its labels, relative to its ``data_root``; None: tries that
                of the labelled images.

        Returns:
            None where no labels lie at the place that was tried.

        Raises:
            UserError: none lie at the place that was given.
        """
        parts = config.get('datasets') or ()
        part = parts[source] if source < len(parts) else {}
        inner = part.get('dataset')
        if not str(part.get('type')).endswith('UnlabeledSegDataset'):
            if truth is not None:
                raise UserError('hidden labels can be given for an UnlabeledSegDataset only')
            return None
        prefixes = [*label_prefixes(parts)] if truth is None else [truth]
        for prefix in prefixes:
            found = _with_labels(inner, prefix)
            if found is not None:
                return cls(found)
        if truth is not None:
            raise UserError(f'{truth}: no labels of the unlabelled images lie there')
        return None

    def fill(
        self,
        model: SemiSeg,
        samples: Sequence[Any],
        batch: SegBatch,
        keys: Sequence[tuple[int, int]],
        places: Sequence[int],
        offset: int,
    ) -> SegBatch:
        """The batch with hidden labels; as it is where they do not fit.

        Args:
            model: preprocesses.
            samples: of the batch.
            batch: the same, as the loss gets it.
            keys: seed and index of each sample.
            places: of the unlabelled samples in the batch.
            offset: index of the source's first sample.
        """
        samples = list(samples)
        for place in places:
            seed, index = keys[place]
            if not Path(self.dataset.get_data_info(index - offset)['seg_map_path']).is_file():
                return batch
            samples[place] = PositionedFetch(self.dataset)([(seed, index - offset)])[0]
        data = model.data_preprocessor(branch_collate(samples), True)
        twin = model.read_batch(data['inputs'], data['data_samples'])
        if not torch.equal(twin.unlabeled, batch.unlabeled):
            return batch  # a transform draws otherwise when there is a label
        return dataclasses.replace(batch, hidden=twin.hidden)


def label_prefixes(config: Any) -> Iterator[str]:
    """Values of ``seg_map_path`` in the configs of data sets, outer ones first."""
    if isinstance(config, Mapping):
        if 'seg_map_path' in config:
            yield config['seg_map_path']
        config = config.values()
    if isinstance(config, (str, bytes)) or not hasattr(config, '__iter__'):
        return
    for each in config:
        yield from label_prefixes(each)


def _with_labels(inner: Mapping, prefix: str) -> Any | None:
    """The data set with labels from below its root, or None where the first has none."""
    config = copy.deepcopy(dict(inner))
    config['data_prefix'] = {**config.get('data_prefix', {}), 'seg_map_path': prefix}
    config['pipeline'] = [dict(type='LoadAnnotations'), *config['pipeline']]
    try:
        dataset = DATASETS.build(config)
        path = dataset.get_data_info(0).get('seg_map_path')
    except (UserError, OSError):
        return None
    return dataset if path and Path(path).is_file() else None
