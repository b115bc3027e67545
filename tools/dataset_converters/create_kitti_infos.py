"""Makes mmdet3d info files for a KITTI tree without writing into it.

Example: ``create_kitti_infos.py --root data/kitti --out work_dirs/infos``. Splits
are read from ``ImageSets``; ``--frames 000000 000001`` names frames instead and
makes one info file ``kitti_infos_<name>.pkl`` of them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from generated_folder import Progress
from light_import import make_light


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--root', type=Path, required=True, help='KITTI tree, only read')
    parser.add_argument('--out', type=Path, required=True, help='folder of the info files')
    parser.add_argument('--splits', nargs='+', default=['train', 'val'], help='files of ImageSets')
    parser.add_argument('--split-ids', '--frames', nargs='+', metavar='ID', help='frames instead')
    parser.add_argument('--name', default='train', help='of the info file of --split-ids')
    parser.add_argument('--reduced', action='store_true', help='also write velodyne_reduced')
    parser.add_argument(
        '--testing', action='store_true', help='frames of the folder testing, without labels'
    )
    args = parser.parse_args(argv)
    make_light('mmdistill.core', 'mmdistill.det3d')
    from mmdistill.det3d.kitti_infos import read_ids, write_infos

    folder = 'testing' if args.testing else 'training'
    try:
        if args.split_ids:
            chosen = {args.name: [f'{int(i):06d}' for i in args.split_ids]}
        else:
            chosen = {split: read_ids(args.root, split) for split in args.splits}
        for split, ids in chosen.items():
            path = write_infos(
                args.root, split, args.out, ids, not args.testing, folder, args.reduced,
                Progress(split),
            )  # fmt: skip
            print(f'{path}: {len(ids)} frames')
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f'create_kitti_infos: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
