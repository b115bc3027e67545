"""Results by key in a file of JSON lines that only grows: what is in it is not computed again."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mmdistill.core.errors import UserError
from mmkd.collection.journal import Journal


class LineCache:
    """Rows of JSON by one of their values, in memory and in a :class:`Journal`.

    Rows are on the disk once :meth:`add` returns. A context manager that closes the file, which
    belongs to one process at a time.

    Args:
        path: the file; None: in memory alone.
        key: name of the value that rows are found by.

    Raises:
        UserError: a line that is no such row, or another process has the file.
    """

    def __init__(self, path: str | Path | None, key: str = 'key') -> None:
        self.key, self.rows, self._journal = key, {}, None
        with ExitStack() as opened:
            if path is not None:
                self._journal = opened.enter_context(Journal(Path(path)))
                self._load(Path(path))
            self._opened = opened.pop_all()

    def __enter__(self) -> LineCache:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self.rows[key]

    def add(self, *rows: dict[str, Any]) -> None:
        """Keeps rows, all in one write.

        Args:
            *rows: what JSON can hold.

        Raises:
            UserError: the file cannot be written.
        """
        if self._journal is not None:
            self._journal.append([json.dumps(row).encode() + b'\n' for row in rows])
        self.rows.update({row[self.key]: row for row in rows})

    def _load(self, path: Path) -> None:
        """Reads the rows that there are."""
        with path.open('rb') as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    self.rows[row[self.key]] = row
                except (ValueError, TypeError, KeyError):
                    raise UserError(
                        f'{path}:{number}: no JSON with {self.key!r}; remove the line, or name '
                        'another file'
                    ) from None
