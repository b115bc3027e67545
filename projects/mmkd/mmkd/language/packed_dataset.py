"""Packs of a table of tokens, made anew for each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmkd.datasets.tokenizers import load_tokenizer
from mmkd.language.lm_loss import IGNORED
from mmkd.language.pack_index import PackIndex
from mmkd.language.packing import Packs, checked, packer_named
from mmkd.language.token_table import TokenTable
from mmkd.registry import DATASETS

KEPT_EPOCHS = 2
"""Epochs whose packs are in memory: workers read a few packs of the next one ahead."""


@DATASETS.register_module()
class PackedDataset(Dataset):
    """Documents that share a sequence, see :func:`packed_sample`; an epoch has its own packs.

    Packs are a function of (seed, stage, epoch), so all ranks and workers have the same. An index
    is a number in the epoch of :meth:`set_epoch`, or ``(epoch, number)``, which workers of a loader
    understand whatever epoch they began in; beyond the last pack it stands for the empty one.

    Args:
        table: folder of a :class:`mmkd.language.token_table.TokenTable`, or the table itself.
        cap: tokens of a pack at most.
        packer: ``best_fit``, ``next_fit`` or ``none``, see :mod:`mmkd.language.packing`.
        seed: of the order.
        stage: number that tells data sets of one seed apart.
        tokenizer: folder of the tokenizer that the table must have been made with; None: not
            checked.
        template: alike; needs the tokenizer.
        data_root: folder of a table and a tokenizer that are not absolute.

    Raises:
        UserError: no such table, one of another tokenizer or template, an unknown packer, or a
            document that is longer than a pack.
    """

    def __init__(
        self,
        table: str | Path | TokenTable,
        cap: int,
        packer: str = 'best_fit',
        seed: int = 0,
        stage: int = 0,
        tokenizer: str | None = None,
        template: str | Mapping[str, Any] | None = None,
        data_root: str = '',
    ) -> None:
        self._packer = packer_named(packer)
        self.table = (
            table if isinstance(table, TokenTable) else TokenTable.open(Path(data_root, table))
        )
        if tokenizer is not None:
            self.table.check(load_tokenizer(Path(data_root, tokenizer)), template)
        elif template is not None:
            raise UserError('PackedDataset: template is checked with its tokenizer: give both')
        self.lengths = checked(self.table.lengths, cap)
        self.cap, self.packer, self.seed, self.stage = cap, packer, seed, stage
        self.epoch = 0
        self._packs: dict[int, Packs] = {}
        self._counts: dict[int, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the packs, which are quickly made again."""
        return {**self.__dict__, '_packs': {}}

    def packs(self, epoch: int) -> Packs:
        """Packs of an epoch."""
        if epoch not in self._packs:
            made = self._packer(self.lengths, self.cap, (self.seed, self.stage, epoch))
            while len(self._packs) >= KEPT_EPOCHS:
                del self._packs[next(iter(self._packs))]
            self._packs[epoch], self._counts[epoch] = made, len(made)
        return self._packs[epoch]

    def count(self, epoch: int) -> int:
        """Number of packs of an epoch."""
        return self._counts[epoch] if epoch in self._counts else len(self.packs(epoch))

    def pack(self, epoch: int, number: int) -> dict[str, Tensor]:
        """A pack of an epoch, see :func:`packed_sample`; IndexError beyond the last one."""
        return packed_sample(self.table, self.packs(epoch)[number])

    def empty(self) -> dict[str, Tensor]:
        """A pack without a token, which ranks get at the end of an epoch."""
        return packed_sample(self.table, np.empty(0, np.int64))

    def index(self, epoch: int) -> PackIndex:
        """Packs of an epoch with what they depend on, to be saved."""
        header = dict(
            cap=self.cap,
            packer=self.packer,
            seed=self.seed,
            stage=self.stage,
            epoch=epoch,
            tokenizer=self.table.meta.tokenizer,
            table=self.table.digest,
            samples=len(self.table),
        )
        return PackIndex(self.packs(epoch), header)

    def set_epoch(self, epoch: int) -> None:
        """Epoch of indices that are numbers, and of the length."""
        self.epoch = int(epoch)

    def __len__(self) -> int:
        """Number of packs of the epoch."""
        return self.count(self.epoch)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Tensor]:
        """A pack, or with ``(epoch, number)`` beyond the last one the empty pack."""
        if not isinstance(index, tuple):
            return self.pack(self.epoch, index)
        epoch, number = index
        return self.pack(epoch, number) if number < self.count(epoch) else self.empty()


def packed_sample(table: TokenTable, samples: np.ndarray) -> dict[str, Tensor]:
    """Documents of a table one after the other.

    Args:
        table: of tokens.
        samples: numbers of D documents.

    Returns:
        Tensors ``(T,)`` int64: ``input_ids``; ``labels``, which are -100 at prompts and at the
        first token of each document, for no document predicts the next one; ``position_ids``,
        from 0 in each document; ``doc_ids`` 0 to D - 1. And ``cu_seqlens`` ``(D + 1,)`` int32,
        where documents begin.
    """
    documents = [table[number] for number in samples.tolist()]
    lengths = np.array([len(tokens) for tokens, _ in documents], np.int64)
    silent = np.array([max(prompt, 1) for _, prompt in documents], np.int64)
    ends = np.cumsum([0, *lengths])
    tokens = np.concatenate([np.empty(0, np.int64), *(tokens for tokens, _ in documents)])
    places = np.arange(len(tokens)) - np.repeat(ends[:-1], lengths)
    masked = np.repeat(silent, lengths)
    labels = np.where(places < masked, IGNORED, tokens)
    found = dict(
        input_ids=tokens,
        labels=labels,
        position_ids=places,
        doc_ids=np.repeat(np.arange(len(documents)), lengths),
        cu_seqlens=ends.astype(np.int32),
    )
    return {key: torch.from_numpy(value) for key, value in found.items()}
