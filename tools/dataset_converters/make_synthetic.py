"""Makes synthetic data sets: ``make_synthetic.py KIND --out DIR --train N --val M --seed S``.

KIND is ``kitti`` (LiDAR scenes), ``nuscenes`` or ``waymo`` (LiDAR sequences), ``people`` (images
with COCO keypoints) or ``streets`` (images of two domains with Cityscapes' labels).
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from generated_folder import Progress, generate
from light_import import make_light

KITTI_VERSION = 3
"""Raise it when the same arguments give other frames than before."""
SEQUENCES_VERSION = 1
"""The same for LiDAR sequences."""
PEOPLE_VERSION = 1
"""The same for the images of people."""
STREETS_VERSION = 1
"""The same for the images of streets."""


def add_common(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments all data sets share."""
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--train', type=int, required=True, metavar='N', help='training samples')
    parser.add_argument('--val', type=int, required=True, metavar='M', help='validation samples')
    parser.add_argument('--seed', type=int, default=0, metavar='S')
    parser.add_argument('--workers', type=int, default=1, help='processes, 0 for one per core')
    parser.add_argument('--overwrite', action='store_true', help='replace what DIR holds')


def add_kitti(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command ``kitti``."""
    parser = commands.add_parser('kitti', help='LiDAR scenes as a KITTI tree with mmdet3d infos')
    add_common(parser)
    parser.add_argument('--beams', type=int, default=48, help='beams of the LiDAR')
    parser.add_argument('--azimuth-step', type=float, default=0.2, metavar='DEGREES')
    parser.add_argument(
        '--sweep', choices=('front', 'full'), default='front', help='50 degrees to each side or all'
    )
    parser.set_defaults(run=run_kitti)


def run_kitti(args: argparse.Namespace, workers: int) -> bool:
    """Makes the KITTI tree; False when it is there already."""
    keys = ('train', 'val', 'seed', 'beams', 'azimuth_step', 'sweep')
    manifest = {'kind': 'kitti', 'version': KITTI_VERSION, **{k: getattr(args, k) for k in keys}}

    def write(folder: Path) -> None:
        make_light('mmdistill.core', 'mmdistill.det3d')
        from mmdistill.det3d.kitti_writer import Recipe, write_dataset
        from mmdistill.det3d.lidar_sim import Lidar

        sector = 180.0 if args.sweep == 'full' else 50.0
        lidar = Lidar(beams=args.beams, azimuth_step=args.azimuth_step, sector=sector)
        recipe = Recipe(args.train, args.val, args.seed, lidar)
        write_dataset(folder, recipe, workers, Progress('scenes'))

    return generate(args.out, manifest, args.overwrite, write)


def add_sequences(commands: argparse._SubParsersAction, kind: str) -> None:
    """Adds the sub-commands ``nuscenes`` and ``waymo``."""
    parser = commands.add_parser(kind, help=f'LiDAR sequences as a {kind} tree with mmdet3d infos')
    add_common(parser)
    parser.add_argument('--frames', type=int, default=4, help='labelled ones of a sequence')
    parser.set_defaults(run=run_sequences, kind=kind)


def run_sequences(args: argparse.Namespace, workers: int) -> bool:
    """Makes a tree of sequences (``--train`` of them); False when it is there already."""
    manifest = {'kind': args.kind, 'version': SEQUENCES_VERSION}
    manifest.update({k: getattr(args, k) for k in ('train', 'val', 'seed', 'frames')})

    def write(folder: Path) -> None:
        make_light('mmdistill.core', 'mmdistill.det3d')
        from mmdistill.det3d import sequence_writer

        recipe = sequence_writer.Recipe(args.train, args.val, args.frames, seed=args.seed)
        getattr(sequence_writer, f'write_{args.kind}')(
            folder, recipe, workers, Progress('sequences')
        )

    return generate(args.out, manifest, args.overwrite, write)


def add_people(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command ``people``."""
    parser = commands.add_parser('people', help='images of people with COCO keypoints')
    add_common(parser)
    parser.add_argument('--size', type=int, default=160, metavar='PIXELS', help='of each side')
    parser.add_argument(
        '--upright',
        action='store_true',
        help='one person per image, standing or walking, facing the camera, nothing in front: '
        'can be learned in minutes',
    )
    parser.set_defaults(run=run_people)


def run_people(args: argparse.Namespace, workers: int) -> bool:
    """Makes the images and annotations; False when they are there already."""
    keys = ('train', 'val', 'seed', 'size', 'upright')
    manifest = {'kind': 'people', 'version': PEOPLE_VERSION, **{k: getattr(args, k) for k in keys}}

    def write(folder: Path) -> None:
        make_light('mmdistill.core', 'mmdistill.pose')
        from mmdistill.pose.figure_sim import PictureSettings
        from mmdistill.pose.people_writer import Recipe, write_dataset

        settings = PictureSettings(size=args.size)
        if args.upright:
            settings = replace(settings, people=(1, 1), occluders=0.0, upright=True)
        recipe = Recipe(args.train, args.val, args.seed, settings)
        write_dataset(folder, recipe, workers, Progress('images'))

    return generate(args.out, manifest, args.overwrite, write)


def add_streets(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command ``streets``."""
    parser = commands.add_parser(
        'streets', help='streets as a game and a camera show them, with Cityscapes labels'
    )
    add_common(parser)
    parser.add_argument(
        '--size', nargs='+', default=['256x128'], metavar='PIXELS', help='WIDTHxHEIGHT'
    )
    parser.set_defaults(run=run_streets)


def two_sides(words: list[str]) -> tuple[int, int]:
    """Width and height of ``['256x128']`` or ``['256', '128']``.

    Raises:
        ValueError: something else.
    """
    sides = 'x'.join(words).lower().split('x')
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise ValueError(f'--size must be WIDTHxHEIGHT as in 256x128, got {" ".join(words)!r}')
    return int(sides[0]), int(sides[1])


def run_streets(args: argparse.Namespace, workers: int) -> bool:
    """Makes both domains; False when they are there already."""
    size = two_sides(args.size)
    keys = ('train', 'val', 'seed')
    manifest = {'kind': 'streets', 'version': STREETS_VERSION, 'size': size}
    manifest.update({k: getattr(args, k) for k in keys})

    def write(folder: Path) -> None:
        make_light('mmdistill.core', 'mmdistill.seg')
        from mmdistill.seg.street_sim import StreetSettings
        from mmdistill.seg.streets_writer import Recipe, write_dataset

        recipe = Recipe(args.train, args.val, args.seed, StreetSettings(size=size))
        write_dataset(folder, recipe, workers, Progress('images'))

    return generate(args.out, manifest, args.overwrite, write)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar='KIND')
    add_kitti(commands)
    for kind in ('nuscenes', 'waymo'):
        add_sequences(commands, kind)
    add_people(commands)
    add_streets(commands)
    args = parser.parse_args(argv)
    workers = args.workers or os.cpu_count() or 1
    try:
        made = args.run(args, workers)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f'make_synthetic: {error}', file=sys.stderr)
        return 2
    print(f'{args.out}: {"done" if made else "is there already, nothing to do"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
