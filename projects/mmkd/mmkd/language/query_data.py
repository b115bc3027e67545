"""Questions as a data set, for evaluation by answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmkd.registry import DATASETS
from mmkd.traces.schema import Query, read_record


class QueryData(Dataset):
    """Queries.

    Args:
        queries: of any kind; those without a target cannot be scored.

    Raises:
        UserError: there are none.
    """

    def __init__(self, queries: Sequence[Query]) -> None:
        if not queries:
            raise UserError(f'{type(self).__name__}: there is no question')
        self.queries = list(queries)

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.queries)

    def __getitem__(self, index: int) -> Query:
        """A question."""
        return self.queries[index]


@DATASETS.register_module()
class QueryFiles(QueryData):
    """Queries of files of JSON lines.

    Args:
        paths: one or several files.
        data_root: folder of those that are not absolute.
        limit: questions of a file at most, the first ones; None: all.

    Raises:
        UserError: a missing file, or a line that is no query.
    """

    def __init__(
        self, paths: str | Sequence[str], data_root: str = '', limit: int | None = None
    ) -> None:
        found: list[Query] = []
        for name in [paths] if isinstance(paths, str) else paths:
            path = Path(data_root, name)
            if not path.is_file():
                raise UserError(f'{path}: there is no such file of queries')
            with path.open(encoding='utf-8') as file:
                rows = [(n, line) for n, line in enumerate(file, 1) if line.strip()][:limit]
            found += [read_record(Query, line, f'{path}:{number}') for number, line in rows]
        super().__init__(found)
