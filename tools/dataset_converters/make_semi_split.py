"""Draws labelled frames of a KITTI tree: nested splits, the same for the same seed.

Files that are there already, published ones for instance, are checked and kept.
Example: ``make_semi_split.py --root data/kitti --sizes 0.01 0.02``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from light_import import make_light


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--root', type=Path, required=True, help='holds ImageSets/train.txt')
    parser.add_argument('--out', type=Path, help='default: <root>/ImageSets_semi')
    parser.add_argument(
        '--sizes', type=float, nargs='+', required=True, help='frames, or shares if below 1'
    )
    parser.add_argument('--numbers', type=int, default=3, help='splits per size')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--overwrite', action='store_true', help='replace existing files')
    args = parser.parse_args(argv)
    make_light('mmdistill.core', 'mmdistill.det3d')
    from mmdistill.core.errors import UserError
    from mmdistill.det3d.semi_split import read_frames, write_splits

    out = args.out or args.root / 'ImageSets_semi'
    try:
        train = read_frames(args.root / 'ImageSets' / 'train.txt')
        done = write_splits(out, train, args.sizes, args.numbers, args.seed, args.overwrite)
    except (UserError, OSError) as error:
        print(f'make_semi_split: {error}', file=sys.stderr)
        return 2
    for path, what in done.items():
        print(f'{path}: {what}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
