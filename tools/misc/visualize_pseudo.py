"""Draws what a trained semi-supervised 3D, pose or segmentation model teaches itself.

3D, one PNG per unlabelled frame, from above and in perspective: hard labels (``high``), soft ones
with their weight (``ambiguous``), boxes whose points are deleted (``low``) and these points, and
the hidden truth where the data have it. Pose, one PNG per unlabelled person: the view of teacher
and reviewer with their peaks, the student's harder view with what it is to find and what it finds,
and the hidden truth where the data have it. Segmentation, one PNG per unlabelled image: the
teacher's labels, confidence and weights, whether they are right where hidden labels can be read,
and the student's mixed view with the labels that it follows. The teacher is the saved one, before
any virtual step of FST.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mmdistill.core  # noqa: F401  # isort: skip  (first: see light_optim.py)

from mmengine.config import Config

from mmdistill.core import launch
from mmdistill.core.errors import UserError, run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', type=Path)
    parser.add_argument('--checkpoint', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--count', type=int, default=4, help='unlabelled ones, default 4')
    parser.add_argument(
        '--ids', type=int, nargs='+', default=[],
        help='these instead (3D: frames; segmentation: numbers of unlabelled images, from 0 on)',
    )  # fmt: skip
    parser.add_argument('--iter', type=int, default=0, help='iteration that keys the draws')
    parser.add_argument(
        '--truth', metavar='PREFIX',
        help='segmentation: seg_map_path of hidden labels of the unlabelled images, below their '
        'data_root; by default that of the labelled images is tried',
    )  # fmt: skip
    parser.add_argument('--cfg-options', nargs='+', action=launch.ConfigOptions, default={})
    return parser.parse_args(argv)


def scenes(args: argparse.Namespace) -> None:
    """Writes the pictures of a 3D training."""
    from semi_clouds import choose, draw
    from semi_scenes import build

    model, dataset = build(args.config, args.checkpoint, args.cfg_options)
    draw(model, dataset, choose(dataset, args.ids, args.count), args.out, args.iter)


def poses(args: argparse.Namespace) -> None:
    """Writes the pictures of a pose training."""
    from semi_poses import build, choose, draw

    model, dataset = build(args.config, args.checkpoint, args.cfg_options)
    draw(model, dataset, choose(dataset, args.ids, args.count), args.out, 'pseudo', args.iter)


def images(args: argparse.Namespace) -> None:
    """Writes the pictures of a segmentation training."""
    from seg_pictures import taught
    from semi_segmentation import build

    training = build(args.config, args.checkpoint, args.cfg_options, args.truth)
    taught(training, args.ids, args.count, args.out, args.iter)


BY_SCOPE = {'mmdet3d': scenes, 'mmpose': poses, 'mmseg': images}
"""What draws, by the host in the config's ``default_scope``."""


def main(argv: list[str] | None = None) -> None:
    """Writes the pictures."""
    args = parse_args(argv)
    scope = Config.fromfile(args.config, import_custom_modules=False).get('default_scope')
    if scope not in BY_SCOPE:
        raise UserError(f'{args.config}: no pictures for default_scope {scope!r}')
    BY_SCOPE[scope](args)


if __name__ == '__main__':
    run_tool(main)
