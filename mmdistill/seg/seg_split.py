"""Which training images have labels: reads published lists, draws nested ones.

An id is the path of an image below its folder without suffix, ``2007_000032`` or
``aachen/aachen_000000_000019``, and a line of the ``ann_file`` of mmseg's datasets.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from mmdistill.core.errors import UserError

FOLDER = re.compile(r'^(?:.*/)?(?:JPEGImages|leftImg8bit|images)/(?:(?:train|val|test)/)?(?=[^/])')
SUFFIX = re.compile(r'(?:_leftImg8bit)?\.(?:png|jpe?g)$')


class SplitError(UserError):
    """A list of images does not fit; the message names the file and the line or id."""


def image_id(line: str) -> str:
    """Strips a line of a published list to the id of its image.

    Knows lines with an id (U2PL, VOC), an image (U2PL, Cityscapes), and an image and its label
    divided by a tab or blank (UniMatch, CPS); folders up to ``JPEGImages``, ``images`` or
    ``leftImg8bit/<split>`` and the suffix go.

    Args:
        line: of the list, not empty.
    """
    name = line.strip().split('\t' if '\t' in line.strip() else None)[0].lstrip('/')
    return SUFFIX.sub('', FOLDER.sub('', name.removeprefix('./')))


def read_ids(path: str | Path) -> list[str]:
    """Reads the ids of a list in any of the forms of :func:`image_id`.

    Returns:
        Ids in file order; empty lines are left out.

    Raises:
        SplitError: the file is missing, no text or empty, or an id stands twice.
    """
    path = Path(path)
    if not path.is_file():
        raise SplitError(f'{path}: no such list of images')
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise SplitError(f'{path}: is no text file ({error.reason})') from error
    ids: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name = image_id(line)
        if name in ids:
            raise SplitError(f'{path}, line {number}: {name} stands already in line {ids[name]}')
        ids[name] = number
    if not ids:
        raise SplitError(f'{path}: lists no image')
    return list(ids)


def list_images(folder: str | Path, suffix: str) -> list[str]:
    """Ids of all images below a folder, sorted.

    Raises:
        SplitError: the folder is missing or holds no such image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SplitError(f'{folder}: no such folder')
    ids = [p.relative_to(folder).as_posix() for p in folder.rglob(f'*{suffix}') if p.is_file()]
    if not ids:
        raise SplitError(f'{folder}: holds no image with the suffix {suffix!r}')
    return sorted(name.removesuffix(suffix) for name in ids)


def labeled_count(size: str, total: int) -> int:
    """Number of labelled images.

    Shares are rounded up, as in the published splits: 1/16 of the 10582 images of VOC are 662,
    1/16 of the 2975 of Cityscapes 186.

    Args:
        size: a number of images such as ``'92'``, or a share such as ``'1/16'`` or ``'0.5'``.
        total: number of images.

    Raises:
        SplitError: it is no number, or not between 1 and ``total``.
    """
    try:
        value = Fraction(size)
    except (ValueError, ZeroDivisionError) as error:
        raise SplitError(f'size {size!r} is no number of images and no share like 1/16') from error
    share = value < 1 or '/' in size or '.' in size
    count = math.ceil(value * total) if share else int(value)
    if not 0 < count <= total:
        raise SplitError(f'size {size!r} is not between 1 and all {total} images')
    return count


def draw_order(ids: Iterable[str], seed: int) -> list[str]:
    """A shuffle of the ids; the labelled images are the first ones, so splits are nested.

    Ids are sorted by a hash of seed and id: the order depends neither on the order of ``ids``
    nor on a library, and an id that is added or removed leaves the others in their order.

    Args:
        ids: all images.
        seed: of the shuffle.
    """
    return sorted(ids, key=lambda i: (hashlib.sha1(f'{seed} {i}'.encode()).digest(), i))


def write_split(folder: Path, labeled: Sequence[str], all_ids: Sequence[str]) -> None:
    """Writes ``labeled.txt`` and ``unlabeled.txt``, sorted ids, one a line.

    Args:
        folder: made when missing.
        labeled: labelled images.
        all_ids: all training images.

    Raises:
        SplitError: a labelled image is not one of all.
    """
    unknown = sorted(set(labeled) - set(all_ids))
    if unknown:
        raise SplitError(
            f'{len(unknown)} of {len(labeled)} labelled images, for instance {unknown[0]}, are not '
            f'among the {len(all_ids)} of the data set; use a list of this data set'
        )
    rest = sorted(set(all_ids) - set(labeled))
    folder.mkdir(parents=True, exist_ok=True)
    for name, ids in (('labeled', sorted(labeled)), ('unlabeled', rest)):
        (folder / f'{name}.txt').write_text(''.join(f'{i}\n' for i in ids), encoding='utf-8')
