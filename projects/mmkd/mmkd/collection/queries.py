"""Files of questions, one a line, that are read while they are asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mmdistill.core.errors import UserError
from mmkd.traces.schema import Query, read_record


class QueriesMark(BaseModel):
    """What tells files of questions from others.

    Attributes:
        sha256: of their content.
        count: of questions.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    sha256: str
    count: int


class QueryFiles:
    """Questions of JSON lines, see :class:`mmkd.traces.schema.Query`; blank lines are none.

    Args:
        paths: of the files, in the order of asking.

    Raises:
        UserError: no file, or one that is not there.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = [Path(each) for each in paths]
        if not self.paths:
            raise UserError('there are no questions: name a file of them as queries')
        for path in self.paths:
            if not path.is_file():
                raise UserError(f'{path}: there is no such file of questions')

    def __iter__(self) -> Iterator[Query]:
        """Questions, one at a time.

        Raises:
            UserError: a line is no question; the message names file and line.
        """
        return (query for query, _ in self._lines())

    def mark(self) -> QueriesMark:
        """Hash and number, after a look at every line.

        Raises:
            UserError: a line is no question, or there is none.
        """
        found, count = hashlib.sha256(), 0
        for _, line in self._lines():
            found.update(line.rstrip(b'\r\n') + b'\n')
            count += 1
        if not count:
            raise UserError(f'{", ".join(map(str, self.paths))}: there is no question in it')
        return QueriesMark(sha256=found.hexdigest(), count=count)

    def _lines(self) -> Iterator[tuple[Query, bytes]]:
        """Questions with their lines."""
        for path in self.paths:
            with path.open('rb') as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield read_record(Query, line, f'{path}:{number}'), line
