"""Draws labelled images of a segmentation data set, or reads published lists of them.

Draws nested splits, the same for the same seed, as lists of ids for mmseg's ``ann_file``:
``make_seg_split.py --images data/camvid/images/train --suffix .jpg --sizes 1/16 1/8 1/4
--out data/camvid/splits``. Published lists (U2PL, UniMatch, CPS) become ids:
``make_seg_split.py --published labeled.txt --ids train_aug.txt --out data/voc/u2pl_662``.
Without ``--out`` numbers and SHA-1 of the sorted ids are shown.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from generated_folder import generate
from label_files import UserError, guarded

from mmdistill.seg.class_stats import names_hash
from mmdistill.seg.seg_split import draw_order, labeled_count, list_images, read_ids, write_split

VERSION = 1
"""Raise it when the same arguments give another folder than before."""


def all_images(args: argparse.Namespace) -> list[str] | None:
    """Ids of all training images, None when they were not given."""
    if args.ids is not None:
        return read_ids(args.ids)
    return list_images(args.images, args.suffix) if args.images is not None else None


def draw(args: argparse.Namespace, everything: list[str]) -> None:
    """Draws splits, a folder for each size."""
    order = draw_order(everything, args.seed)
    counts = {size.replace('/', '_'): labeled_count(size, len(order)) for size in args.sizes}
    splits = {name: order[:count] for name, count in counts.items()}
    manifest = dict(
        kind='segmentation splits', version=VERSION, seed=args.seed, images=len(order),
        images_sha1=names_hash(order), labeled=counts,
        labeled_sha1={name: names_hash(ids) for name, ids in splits.items()},
    )  # fmt: skip

    def write(folder: Path) -> None:
        for name, ids in splits.items():
            write_split(folder / name, ids, order)

    made = generate(args.out, manifest, args.overwrite, write)
    for name, ids in splits.items():
        show(args.out / name / 'labeled.txt', ids)
    print(f'{args.out}: {"done" if made else "is there already, nothing to do"}')


def convert(args: argparse.Namespace, everything: list[str] | None) -> None:
    """Shows published lists, and writes one of them as ids."""
    lists = {path: read_ids(path) for path in args.published}
    for path, ids in lists.items():
        show(path, ids)
        lines = [line for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
        if set(lines) != set(ids):
            print(f'  sha1 of its lines as they are {names_hash(lines)}')
    if args.out is None:
        return
    if len(lists) > 1 or everything is None:
        raise UserError('--out needs one --published list, and all images by --ids or --images')
    (ids,) = lists.values()
    manifest = dict(
        kind='published segmentation split', version=VERSION, images=len(everything),
        images_sha1=names_hash(everything), labeled=len(ids), labeled_sha1=names_hash(ids),
    )  # fmt: skip
    generate(
        args.out, manifest, args.overwrite, lambda folder: write_split(folder, ids, everything)
    )
    print(f'{args.out}: labeled.txt and unlabeled.txt')


def show(path: Path, ids: list[str]) -> None:
    """Prints what identifies a list."""
    print(f'{path}: {len(ids)} images, sha1 {names_hash(ids)}')


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--ids', type=Path, help='list of all training images')
    source.add_argument('--images', type=Path, help='folder of all training images')
    parser.add_argument('--suffix', default='.png', help='of the images')
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument('--sizes', nargs='+', help='numbers of labelled images, or shares')
    task.add_argument('--published', nargs='+', type=Path, help='lists to be read')
    parser.add_argument('--seed', type=int, default=0, help='of the draw')
    parser.add_argument('--out', type=Path, help='folder to make')
    parser.add_argument('--overwrite', action='store_true', help='replace what it holds')
    args = parser.parse_args(argv)

    def run() -> None:
        everything = all_images(args)
        if args.published:
            convert(args, everything)
        elif everything is None or args.out is None:
            raise UserError('--sizes needs --out, and all images by --ids or --images')
        else:
            draw(args, everything)

    return guarded('make_seg_split', run)


if __name__ == '__main__':
    sys.exit(main())
