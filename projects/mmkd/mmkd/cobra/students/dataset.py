"""Frames as a data set of sources and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import WARNING
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError, did_you_mean
from mmdistill.core.rng import stable_seed
from mmkd.cobra.schema import SLOTS, Frame
from mmkd.cobra.students.encoding import FrameEncoder, context_named, slots_named
from mmkd.cobra.tables.table import read_frames
from mmkd.cobra.texts.templates import FrameTemplate, frame_template
from mmkd.datasets.tokenizers import tokenizer_of
from mmkd.language.packed_dataset import packed_sample
from mmkd.registry import DATASETS

Frames = str | Path | Sequence[Frame] | Mapping[str, Any]


def frames_of(given: Frames, data_root: str = '') -> list[Frame]:
    """Frames of a table, a list, or the config of a data set that has ``frames``.

    Args:
        given: one of them.
        data_root: folder of a table that is not absolute.

    Raises:
        UserError: there is none.
    """
    if isinstance(given, (str, Path)):
        found = list(read_frames(Path(data_root, given)))
    elif isinstance(given, Mapping):
        found = list(DATASETS.build(dict(given)).frames)
    else:
        found = list(given)
    if not found:
        raise UserError('CobraFrameDataset: there is no frame')
    return found


def of_split(frames: list[Frame], split: str | None) -> list[Frame]:
    """The frames of a split, all of them for None.

    Raises:
        UserError: none is of it.
    """
    found = frames if split is None else [each for each in frames if each.split == split]
    if not found:
        known = sorted({each.split for each in frames})
        raise UserError(
            f'no frame is of the split {split!r}{did_you_mean(str(split), known)}; '
            f'there are {known}'
        )
    return found


@DATASETS.register_module()
class CobraFrameDataset(Dataset):
    """Statements with their contexts, and explanations to be learned (arXiv 2306.01985).

    Everything is tokenized at once when the data set is made. An index is a number, or a pair
    (epoch, number) of :class:`mmkd.language.length_groups.LengthGroupedSampler`; bare numbers
    belong to the epoch of :meth:`set_epoch`.

    Args:
        frames: path of a table, a list, or the config of a data set that has ``frames``.
        template: of sources and targets, see :func:`mmkd.cobra.texts.templates.frame_template`.
        tokenizer: folder, config, or the object, which gets the tokens of the template.
        context: slots of the context that sources have: ``'all'``, ``'none'`` or a list. Targets
            stay as they are, as in the paper's ablation, so that equal sources without a context
            have several targets.
        context_dropout: probability that a frame has no context in an epoch, so that one model
            learns both conditions (our completion); a function of seed, epoch and number.
        slots: of the targets.
        slot_weights: of the tokens of a slot in the loss, 1 where nothing is said; for
            ``Seq2SeqStudent``.
        max_source: tokens of a source at most.
        max_target: tokens of a target at most.
        decoder_only: a sample is one text for ``CausalStudent``, whose prompt is not learned.
        seed: of the dropout.
        data_root: folder of a table that is not absolute.
        split: frames of this split alone; None: all.

    Attributes:
        frames: as they were given.
        lengths: tokens of source and target ``(N,)``.
        truncated: how many of ``source`` and ``target`` were cut.

    Raises:
        UserError: no frames, unknown slots, a probability out of range, see also
            :class:`mmkd.cobra.students.encoding.FrameEncoder`.
    """

    def __init__(
        self,
        frames: Frames,
        template: str | Mapping[str, Any] | FrameTemplate,
        tokenizer: Any,
        context: str | Sequence[str] = 'all',
        context_dropout: float = 0.0,
        slots: Sequence[str] = SLOTS,
        slot_weights: Mapping[str, float] | None = None,
        max_source: int = 512,
        max_target: int = 512,
        decoder_only: bool = False,
        seed: int = 0,
        data_root: str = '',
        split: str | None = None,
    ) -> None:
        if not 0 <= context_dropout <= 1:
            raise UserError(f'context_dropout must be in [0, 1], got {context_dropout}')
        self.frames = of_split(frames_of(frames, data_root), split)
        self.template = frame_template(template)
        given = isinstance(tokenizer, (str, Mapping))
        self.tokenizer = tokenizer_of(tokenizer) if given else tokenizer
        self.context, self.slots = context_named(context), slots_named(slots, SLOTS, 'slots')
        self.context_dropout, self.decoder_only, self.seed = context_dropout, decoder_only, seed
        self.epoch = 0
        encoder = FrameEncoder(
            self.tokenizer,
            self.template,
            self.slots,
            slot_weights,
            max_source,
            max_target,
            decoder_only,
        )
        self._sources = encoder.sources(self.frames, self.context)
        self._targets = encoder.targets(self.frames)
        self.truncated = dict(encoder.truncated)
        drops = context_dropout and self.context
        self._bare = encoder.sources(self.frames, ()) if drops else self._sources
        pairs = zip(self._sources, self._targets, strict=True)
        self.lengths = np.array([len(source) + len(target) for source, (target, _) in pairs])
        if any(self.truncated.values()):
            print_log(
                f'of {len(self.frames)} frames {self.truncated["source"]} sources are cut at '
                f'{max_source} tokens and {self.truncated["target"]} targets at {max_target}: '
                'raise max_source and max_target to learn all of them',
                logger='current',
                level=WARNING,
            )

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    def set_epoch(self, epoch: int) -> None:
        """Epoch of indices that are numbers."""
        self.epoch = int(epoch)

    def prompt(self, number: int) -> list[int]:
        """Tokens of the source of a frame, whose context is not dropped."""
        return self._sources[number].tolist()

    def dropped(self, epoch: int, number: int) -> bool:
        """Whether a frame has no context in an epoch."""
        return stable_seed(self.seed, epoch, number) < self.context_dropout * 2**63

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Tensor]:
        """A sample.

        Returns:
            Tensors ``input_ids`` ``(S,)``, ``labels`` ``(T,)`` and, with slot weights, ``weights``
            ``(T,)``; with ``decoder_only`` those of
            :func:`mmkd.language.packed_dataset.packed_sample`.
        """
        epoch, number = index if isinstance(index, tuple) else (self.epoch, index)
        source = (self._bare if self.dropped(epoch, number) else self._sources)[number]
        target, weights = self._targets[number]
        if self.decoder_only:
            return packed_sample(
                [(np.concatenate([source, target]), len(source))], np.zeros(1, int)
            )
        sample = dict(input_ids=source, labels=target)
        found = {key: torch.from_numpy(value).long() for key, value in sample.items()}
        return found if weights is None else dict(found, weights=torch.from_numpy(weights))
