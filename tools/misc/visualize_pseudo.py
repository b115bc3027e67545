"""Draws what a trained semi-supervised pose model teaches itself about unlabelled people.

One PNG per person: the view of teacher and reviewer with their peaks, the student's harder view
with what it is to find and what it finds, and the hidden truth where the data have it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from semi_poses import build, choose, draw

from mmdistill.core import launch
from mmdistill.core.errors import run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', type=Path)
    parser.add_argument('--checkpoint', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--count', type=int, default=4, help='unlabelled people, default 4')
    parser.add_argument('--ids', type=int, nargs='+', default=[], help='these instead')
    parser.add_argument('--iter', type=int, default=0, help='iteration that keys the draws')
    parser.add_argument('--cfg-options', nargs='+', action=launch.ConfigOptions, default={})
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Writes the pictures."""
    args = parse_args(argv)
    model, dataset = build(args.config, args.checkpoint, args.cfg_options)
    draw(model, dataset, choose(dataset, args.ids, args.count), args.out, 'pseudo', args.iter)


if __name__ == '__main__':
    run_tool(main)
