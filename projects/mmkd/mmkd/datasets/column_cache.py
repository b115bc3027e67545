"""Tables that were read before, kept as arrays beside each other in a folder."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError
from mmkd.datasets.columns import Layout, Table, read_columns

CACHE_VERSION = 1
"""Part of the names of the files; another one where the same table gives other arrays."""


def cached_columns(path: Path, layout: Layout, folder: str | None) -> Table:
    """:func:`read_columns`, or what it gave the last time for the same file.

    Args:
        path: of the table.
        layout: what is wanted.
        folder: of the ``.npz`` files, named by the table's size, time of change and layout; None:
            nothing is kept.
    """
    if not path.is_file():
        raise UserError(f'{path}: there is no such file')
    if folder is None:
        return read_columns(path, layout)
    about = path.stat()
    key = [CACHE_VERSION, path.name, about.st_size, about.st_mtime_ns, asdict(layout)]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    kept = Path(folder, f'{path.stem}-{name}.npz')
    if kept.exists():
        try:
            with np.load(kept) as found:
                texts = json.loads(found['texts'].tobytes())
                arrays = {name: found[name] for name in ('numeric', 'codes', 'labels')}
            return Table(**texts, **arrays)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            kept.unlink(missing_ok=True)
    table = read_columns(path, layout)
    texts = json.dumps(dict(names=table.names, words=table.words)).encode()
    arrays = dict(numeric=table.numeric, codes=table.codes, labels=table.labels)
    write_atomic(kept, lambda file: np.savez(file, texts=np.frombuffer(texts, np.uint8), **arrays))
    return table
