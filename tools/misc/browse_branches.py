"""Shows what teacher and student see, in 3D, pose and segmentation trainings.

3D: raw, teacher-augmented, strong and shuffled view of frames. Pose: easy, mixed and hard view of
people, with pseudo heatmaps and peaks. Segmentation: labelled and unlabelled image, what is pasted
and the student's view, a row per pass. Writes one PNG per frame, person or image. Everything comes
from the code that training runs.
Example: ``browse_branches.py configs/hssda/hssda_pointpillars_synthetic-kitti.py --out views
--checkpoint work_dirs/.../iter_250.pth``
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import mmdistill.core  # noqa: F401  # isort: skip  (first: see light_optim.py)

from mmengine.config import Config

from mmdistill.core import launch
from mmdistill.core.errors import UserError, run_tool

if TYPE_CHECKING:
    from semi_scenes import Step

    from mmdistill.det3d.bev_plot import Panel


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', type=Path)
    parser.add_argument('--checkpoint', type=Path, help='of a run or of the plain model')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--count', type=int, default=4, help='unlabelled ones, default 4')
    parser.add_argument(
        '--frames', type=int, nargs='+', default=[],
        help='these instead (pose: ids; segmentation: numbers of unlabelled images, from 0 on)',
    )  # fmt: skip
    parser.add_argument('--iter', type=int, default=0, help='iteration that keys the draws')
    parser.add_argument('--cfg-options', nargs='+', action=launch.ConfigOptions, default={})
    return parser.parse_args(argv)


def panels(step: Step, row: int) -> list[Panel]:
    """The views of one frame, side by side."""
    from mmdistill.det3d.bev_plot import Layer, Panel

    names = ('ground truth', 'high', 'ambiguous', 'low')
    if step.labeled[row]:
        names = ('ground truth',)
    found = [Panel('as read (weak view), labels by level', step.raw[row], step.layers(row, names))]
    for index, (points, boxes) in enumerate(step.teacher.get(row, [])[1:]):
        title = "teacher's augmented view" + (f' {index + 1}' if index else '')
        found.append(Panel(title, points, [Layer("teacher's boxes", boxes, '#7b3fa0')]))
    points, boxes, shuffled = step.student[row]
    labels = [Layer("student's labels", boxes, '#00838f')]
    found.append(Panel("student's strong view", points, labels))
    if shuffled is not None:
        found.append(Panel('what enters the student, shuffled', shuffled))
    return found


def scenes(args: argparse.Namespace) -> None:
    """Writes the pictures of a 3D training."""
    from semi_scenes import build, choose, take_step

    from mmdistill.det3d.bev_plot import save_bev

    model, dataset = build(args.config, args.checkpoint, args.cfg_options)
    for start in range(0, len(rows := choose(dataset, args.frames, args.count)), 4):
        step = take_step(model, dataset, rows[start : start + 4], args.iter)
        for row, frame in enumerate(step.frames):
            kind = 'labelled' if step.labeled[row] else 'unlabelled'
            path = args.out / f'branches_{frame:06d}.png'
            title = f'frame {frame:06d}, {kind}'
            save_bev(path, panels(step, row), model.point_cloud_range, title)
            print(path)


def poses(args: argparse.Namespace) -> None:
    """Writes the pictures of a pose training."""
    from semi_poses import build, choose, draw

    model, dataset = build(args.config, args.checkpoint, args.cfg_options)
    draw(model, dataset, choose(dataset, args.frames, args.count), args.out, 'branches', args.iter)


def images(args: argparse.Namespace) -> None:
    """Writes the pictures of a segmentation training."""
    from seg_pictures import branches
    from semi_segmentation import build

    training = build(args.config, args.checkpoint, args.cfg_options)
    branches(training, args.frames, args.count, args.out, args.iter)


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
