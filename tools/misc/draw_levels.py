"""Draws what a trained semi-supervised 3D model holds true about unlabelled frames.

One PNG per frame: the annotations that training never saw beside the pseudo labels, coloured
by level. ``high``: mined, used as hard labels; ``ambiguous``: soft labels; ``low``: their
points are removed. And one PNG of annotated frames.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from semi_scenes import Step, build, choose, take_step

from mmdistill.core import launch
from mmdistill.core.errors import run_tool
from mmdistill.det3d.bev_plot import Panel, save_bev

LEVELS = ('ground truth', 'high', 'ambiguous', 'low')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', type=Path)
    parser.add_argument('--checkpoint', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--count', type=int, default=3, help='unlabelled frames, default 3')
    parser.add_argument('--frames', type=int, nargs='+', default=[], help='these instead')
    parser.add_argument('--cfg-options', nargs='+', action=launch.ConfigOptions, default={})
    return parser.parse_args(argv)


def draw(step: Step, out: Path, point_cloud_range: list[float]) -> list[Path]:
    """Writes the pictures of one batch; returns their paths."""
    truth = [
        Panel(f'frame {frame:06d}', step.raw[row], step.layers(row, LEVELS[:1]))
        for row, frame in enumerate(step.frames)
    ]
    paths = [out / 'bev_ground_truth.png']
    save_bev(paths[0], truth, point_cloud_range)
    for row, frame in enumerate(step.frames):
        count = {name: len(boxes) for name, boxes in step.levels[row].items()}
        counts = ', '.join(f'{number} {name}' for name, number in count.items())
        pair = [
            Panel('annotations, hidden from training', step.raw[row], step.layers(row, LEVELS[:1])),
            Panel(f'pseudo labels: {counts}', step.raw[row], step.layers(row, LEVELS)),
        ]
        paths.append(out / f'bev_levels_{frame:06d}.png')
        save_bev(paths[-1], pair, point_cloud_range, f'frame {frame:06d}, unlabelled')
    return paths


def main(argv: list[str] | None = None) -> None:
    """Writes the pictures."""
    args = parse_args(argv)
    model, dataset = build(args.config, args.checkpoint, args.cfg_options)
    step = take_step(model, dataset, choose(dataset, args.frames, args.count))
    for path in draw(step, args.out, model.point_cloud_range):
        print(path)


if __name__ == '__main__':
    run_tool(main)
