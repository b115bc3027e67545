"""Packs on disk, with what they were made for."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError
from mmkd.language.packing import Packs

KEYS = ('cap', 'packer', 'seed', 'stage', 'epoch', 'tokenizer', 'table', 'samples')
"""What a header says; ``tokenizer`` and ``table`` are digests, ``samples`` is their number."""


@dataclass(frozen=True)
class PackIndex:
    """Packs of the samples of a table, and what they depend on.

    Attributes:
        packs: of all samples.
        header: values of :data:`KEYS`.
    """

    packs: Packs
    header: Mapping[str, Any]

    def save(self, path: str | Path) -> None:
        """Writes an ``.npz`` file, whole or not at all.

        Args:
            path: of the file.
        """
        text = json.dumps({key: self.header[key] for key in KEYS})
        packs = self.packs
        write_atomic(
            path,
            lambda file: np.savez(
                file, indptr=packs.indptr, sample_ids=packs.sample_ids, header=np.array(text)
            ),
        )

    @classmethod
    def load(cls, path: str | Path, **expected: Any) -> PackIndex:
        """The packs of a file.

        Args:
            path: of the file.
            **expected: keys of the header that must have these values.

        Raises:
            UserError: no such file, a damaged one, or one of other values.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f'{path}: there is no such file of packs')
        try:
            with np.load(path, allow_pickle=False) as content:
                header = json.loads(str(content['header']))
                packs = Packs(content['indptr'], content['sample_ids'])
            _check_packs(packs, header['samples'])
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise UserError(f'{path} is damaged: {error}; remove it and pack again') from error
        for key, value in expected.items():
            if header.get(key) != value:
                raise UserError(
                    f'{path} was packed with {key} = {header.get(key)!r}, asked for is {value!r}: '
                    'pack again'
                )
        return cls(packs, header)


def _check_packs(packs: Packs, samples: int) -> None:
    """Each sample once, in packs that follow each other.

    Raises:
        ValueError: it is not so.
    """
    ends = packs.indptr
    whole = len(ends) and ends[0] == 0 and ends[-1] == samples and (np.diff(ends) > 0).all()
    if not whole or not np.array_equal(np.sort(packs.sample_ids), np.arange(samples)):
        raise ValueError(f'its packs do not hold each of {samples} samples once')
