"""What a run directory was made with; a start with something else is refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError
from mmkd.collection.queries import QueriesMark
from mmkd.collection.shards import shard_files
from mmkd.traces.schema import SCHEMA_VERSION, Sampling
from mmkd.version import __version__

NAME = 'manifest.json'
CHANGEABLE = ('queries', 'samples', 'license_tag')
"""Keys that another start may change, if the user says so: the rows until then stay valid."""
_NOTES = ('created', 'collector_version')
_ABSENT = object()


def _now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec='seconds')


class Manifest(BaseModel):
    """What decides the rows of a run. It has no place for a key, nor for an address.

    Attributes:
        teacher: name of the model.
        settings: what else its answers depend on.
        sampling: how it draws.
        samples: answers to each question.
        queries: mark of the files of questions.
        license_tag: of every row.
        schema_version: of every row.
        created: UTC, ISO 8601.
        collector_version: of mmkd, by which the run was begun.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    teacher: str
    settings: dict[str, Any] = {}
    sampling: Sampling
    samples: int = Field(1, gt=0)
    queries: QueriesMark
    license_tag: str = ''
    schema_version: int = SCHEMA_VERSION
    created: str = Field(default_factory=_now)
    collector_version: str = __version__


def open_run(folder: Path, wanted: Manifest, allow: Collection[str] = ()) -> Manifest:
    """Writes the manifest of a new run, or compares that of an old one.

    To be called by one process at a time.

    Args:
        folder: the run directory.
        wanted: what this start is made with.
        allow: keys of :data:`CHANGEABLE` that may differ; the manifest then has the new values.

    Returns:
        The manifest that is in the folder now.

    Raises:
        UserError: something differs, the message names it with both values; or the folder has
            traces without a manifest, or a damaged one.
    """
    for key in allow:
        if key not in CHANGEABLE:
            raise UserError(
                f'{key!r} cannot be allowed to change, only '
                f'{", ".join(CHANGEABLE)} can; name another run directory'
            )
    path = folder / NAME
    if not path.exists():
        if shard_files(folder):
            raise UserError(f'{folder}: there are traces but no {NAME}; name another directory')
        return _write(path, wanted)
    saved = _read(path)
    changed = _compared(path, saved, wanted, allow)
    if not changed:
        return saved
    notes = {name: getattr(saved, name) for name in _NOTES}
    return _write(path, wanted.model_copy(update=notes))


def _write(path: Path, manifest: Manifest) -> Manifest:
    """Writes it, at once."""
    text = manifest.model_dump_json(indent=1)
    write_atomic(path, lambda file: file.write(text.encode()))
    return manifest


def _read(path: Path) -> Manifest:
    """Reads it."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        name = '.'.join(str(each) for each in first['loc'])
        raise UserError(
            f'{path} is damaged: {name}: {first["msg"]}; name another run directory'
        ) from None


def _compared(path: Path, saved: Manifest, wanted: Manifest, allow: Collection[str]) -> bool:
    """Whether something differs that may."""
    old = dict(_leaves(json.loads(saved.model_dump_json(exclude=set(_NOTES)))))
    new = dict(_leaves(json.loads(wanted.model_dump_json(exclude=set(_NOTES)))))
    differing = [key for key in {**old, **new} if old.get(key, _ABSENT) != new.get(key, _ABSENT)]
    for key in differing:
        top = key.partition('.')[0]
        if top not in allow:
            remedy = f' or allow {top} to change' if top in CHANGEABLE else ''
            raise UserError(
                f'{path}: {key} was {old.get(key)!r} when the run began, now it is '
                f'{new.get(key)!r}; name another run directory{remedy}'
            )
    return bool(differing)


def _leaves(values: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Values that are no mappings, with dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value
