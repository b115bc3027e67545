"""Draws labelled frames: nested splits, the same for the same seed.

Of a KITTI tree (``--root``) as text files in the form that the literature publishes; those that are
there already are checked and kept. Of any info file of mmdet3d (``--infos``: nuScenes, Waymo, ...)
as JSON files, by frame or by sequence. Examples:

    make_semi_split.py --root data/kitti --sizes 0.01 0.02 0.2 1
    make_semi_split.py --infos data/nuscenes/nuscenes_infos_train.pkl --sizes 0.05 --by sequence
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from pathlib import Path

from light_import import make_light


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--root', type=Path, help='of KITTI, holds ImageSets/train.txt')
    source.add_argument('--infos', type=Path, help='info file of mmdet3d for training')
    parser.add_argument('--out', type=Path, help='folder, default: ImageSets_semi beside it')
    parser.add_argument(
        '--sizes',
        type=float,
        nargs='+',
        required=True,
        help='shares up to 1; for KITTI also numbers of frames above 1',
    )
    parser.add_argument('--by', choices=('frame', 'sequence'), default='frame')
    parser.add_argument('--sequences', type=Path, help='JSON object of frame and sequence')
    parser.add_argument('--numbers', type=int, default=3, help='splits per size')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--overwrite', action='store_true', help='replace existing files')
    return parser.parse_args(argv)


def kitti_splits(args: argparse.Namespace) -> dict[Path, str]:
    """Text files of a KITTI tree and what happened to each."""
    from mmdistill.core.errors import UserError
    from mmdistill.det3d.semi_split import read_frames, write_splits

    if args.by != 'frame' or args.sequences:
        raise UserError('--by sequence needs --infos: a KITTI tree does not tell its sequences')
    train = read_frames(args.root / 'ImageSets' / 'train.txt')
    sizes = [len(train) if size == 1 else size for size in args.sizes]
    out = args.out or args.root / 'ImageSets_semi'
    return write_splits(out, train, sizes, args.numbers, args.seed, args.overwrite)


def info_splits(args: argparse.Namespace) -> dict[Path, str]:
    """JSON files of an info file and what happened to each."""
    from mmdistill.det3d.split_file import frame_keys, make_split, read_split_file, write_split

    infos = read_infos(args.infos)
    sequences = json.loads(args.sequences.read_text()) if args.sequences else None
    out = args.out or args.infos.parent / 'ImageSets_semi'
    keys, done = frame_keys(infos), {}
    by = '' if args.by == 'frame' else f'{args.by}_'
    for size in args.sizes:
        for number in range(1, args.numbers + 1):
            path = out / f'train_{by}{size:g}_{number}.json'
            if path.exists() and not args.overwrite:
                read_split_file(path, keys)
                done[path] = 'kept'
                continue
            name = args.infos.name
            split = make_split(infos, name, size, args.by, number, args.seed, sequences)
            write_split(path, split)
            done[path] = f'drawn, {len(split.labeled)} of {split.frames} frames'
    return done


def read_infos(path: Path) -> list[dict]:
    """Frames of an info file.

    Raises:
        UserError: it is none.
    """
    from mmdistill.core.errors import UserError

    try:
        content = pickle.loads(path.read_bytes())
        return list(content['data_list'])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with mmdet3d's create_data.py") from None
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise UserError(f'{path}: is no info file of mmdet3d 1.x ({error})') from None


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = parse_args(argv)
    make_light('mmdistill.core', 'mmdistill.det3d')
    from mmdistill.core.errors import UserError

    try:
        done = kitti_splits(args) if args.root else info_splits(args)
    except (UserError, OSError) as error:
        print(f'make_semi_split: {error}', file=sys.stderr)
        return 2
    for path, what in done.items():
        print(f'{path}: {what}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
