"""Sentences, or pairs of them, with classes or values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.datasets.tables import Column, read_table
from mmkd.datasets.tokenizers import load_tokenizer, train_tokenizer
from mmkd.registry import DATASETS, FUNCTIONS


@DATASETS.register_module()
class TextDataset(Dataset):
    """Texts of a table, as ids.

    A sample is ``dict(inputs=dict(input_ids, attention_mask, ...), labels)`` with lists of ids that
    :func:`pad_collate` makes a batch of.

    Args:
        path: of the table, see :func:`read_table`.
        text: column of the text, or columns of both texts.
        label: column of the label; None: there are none.
        labels: names of the classes in the order of the network's outputs, as they stand in the
            table; None: the labels are values.
        header: whether a TSV names its columns.
        tokenizer: ``dict(pretrained=folder)``, or ``dict(corpus=table, vocab_size=..., kind=...)``,
            whose texts it is trained on; None: trained on this table's.
        max_length: ids of a sample at most; of two texts the longer one is cut.
        data_root: folder of all files that are not absolute.
        skip_short: leaves out lines of a TSV that have too few columns, as some of QQP have.

    Raises:
        UserError: see :func:`read_table`; a label that is no class or no value.
    """

    def __init__(
        self,
        path: str,
        text: Column | Sequence[Column],
        label: Column | None = None,
        labels: Sequence[Any] | None = None,
        header: bool = True,
        tokenizer: Mapping[str, Any] | None = None,
        max_length: int = 128,
        data_root: str = '',
        skip_short: bool = False,
    ) -> None:
        self.path, self.texts = Path(data_root, path), _as_list(text)
        if not 1 <= len(self.texts) <= 2:
            raise UserError(f'text must name one or two columns, got {text!r}')
        self.metainfo = dict(classes=tuple(map(str, labels or ())))
        columns = [*self.texts, *([] if label is None else [label])]
        read = partial(read_table, header=header, skip_short=skip_short)
        rows = read(self.path, columns)
        if not rows:
            raise UserError(f'{self.path}: there is no row')
        parts = [[str(row[number]) for row in rows] for number in range(len(self.texts))]
        self.tokenizer = self._tokenizer(tokenizer, parts, read, data_root)
        encoded = self.tokenizer(*parts, truncation=True, max_length=max_length)
        self.encoded = {name: list(encoded[name]) for name in encoded}
        self.labels = None
        if label is not None:
            self.labels = [self._label(row[-1], n, labels) for n, row in enumerate(rows, start=1)]

    def _tokenizer(
        self, given: Mapping[str, Any] | None, parts: list, read: Callable[..., list], root: str
    ) -> Any:
        """Read or trained."""
        options = dict(given or {})
        if 'pretrained' in options:
            return load_tokenizer(options['pretrained'])
        corpus = options.pop('corpus', None)
        if corpus is not None:
            rows = read(Path(root, corpus), self.texts)
            parts = [[str(row[number]) for row in rows] for number in range(len(self.texts))]
        return train_tokenizer([text for part in parts for text in part], **options)

    def _label(self, given: Any, row: int, labels: Sequence[Any] | None) -> int | float:
        """Number of a class, or a value."""
        if labels is None:
            try:
                return float(given)
            except (TypeError, ValueError):
                raise UserError(
                    f'{self.path}, row {row}: {given!r} is no number; classes need labels=[...]'
                ) from None
        names = list(map(str, labels))
        if str(given) not in names:
            raise UserError(
                f'{self.path}, row {row}: {given!r} is no class{did_you_mean(str(given), names)}; '
                f'labels are {names}'
            )
        return names.index(str(given))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.encoded['input_ids'])

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample."""
        sample = dict(inputs={name: values[index] for name, values in self.encoded.items()})
        if self.labels is not None:
            sample['labels'] = self.labels[index]
        return sample


def _as_list(columns: Column | Sequence[Column]) -> list[Column]:
    """One or several columns."""
    return [columns] if isinstance(columns, (str, int)) else list(columns)


@FUNCTIONS.register_module()
def pad_collate(samples: Sequence[Mapping[str, Any]], width: int | None = None) -> dict[str, Any]:
    """A batch as wide as its longest text; what is added is 0 and masked.

    Args:
        samples: of :class:`TextDataset`.
        width: of all batches instead.

    Returns:
        ``inputs`` with tensors ``(B, n)`` by name, and ``labels`` and ``index`` ``(B,)`` if there
        are any.

    Raises:
        UserError: a text is longer than the width.
    """
    longest = max(len(each['inputs']['input_ids']) for each in samples)
    width = longest if width is None else width
    if longest > width:
        raise UserError(f'a text has {longest} ids, width of pad_collate is {width}: raise it')

    def padded(name: str) -> Tensor:
        rows = [each['inputs'][name] for each in samples]
        return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])

    batch: dict[str, Any] = dict(inputs={name: padded(name) for name in samples[0]['inputs']})
    for name in ('labels', 'index'):
        if name in samples[0]:
            batch[name] = torch.tensor([each[name] for each in samples])
    return batch
