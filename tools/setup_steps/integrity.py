"""Finds distributions that a killed installer left half written."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path


def normal(name: str) -> str:
    """Writes a distribution's name the one way that folders of metadata use."""
    return name.lower().replace('-', '_').replace('.', '_')


def installed(site: Path) -> dict:
    """Lists the installed distributions.

    Args:
        site: A ``site-packages`` folder.

    Returns:
        Normal name to version.
    """
    pairs = (path.name[:-10].rsplit('-', 1) for path in site.glob('*.dist-info'))
    return {normal(pair[0]): pair[1] for pair in pairs if len(pair) == 2}


def is_whole(info: Path) -> bool:
    """Says whether every file that a distribution's RECORD names is there in its size."""
    site = info.parent
    try:
        with open(info / 'RECORD', encoding='utf-8', newline='') as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, csv.Error, UnicodeDecodeError):
        return False
    if not (info / 'METADATA').is_file() or not any(
        row[0] == f'{info.name}/RECORD' and len(row) == 3 for row in rows
    ):
        return False
    for row in rows:
        if len(row) != 3 or row[0].endswith('.pyc'):
            continue
        try:
            size = (site / row[0]).stat().st_size
        except OSError:
            return False
        if row[2] and size != int(row[2]):
            return False
    return True


def drop_broken(site: Path) -> list:
    """Removes the metadata of half-installed distributions, so that they get installed again.

    Args:
        site: A ``site-packages`` folder.

    Returns:
        Names of what was dropped.
    """
    broken = [info for info in sorted(site.glob('*.dist-info')) if not is_whole(info)]
    for info in broken:
        shutil.rmtree(info)
    return [info.name[:-10] for info in broken]
