"""Draws the loss around trained weights and the largest eigenvalues of its Hessian.

Writes ``surface.png``, with ``--eigen`` also ``eigenvalues.png``, and all numbers with the command
as ``loss_landscape.json``. Several checkpoints of one config share directions, batches and colours.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import mmdistill.core  # noqa: F401  # isort: skip  (first: see light_optim.py)

import torch
from mmengine.model import BaseModel

from mmdistill.core import launch
from mmdistill.core.compat import trust_checkpoints
from mmdistill.core.errors import UserError, run_tool
from mmkd.analysis import hessian, plots, probe
from mmkd.analysis.directions import filter_normalised
from mmkd.analysis.report import ProgressLine, write_json
from mmkd.analysis.surface import Surface, grid_steps, loss_surface


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of the training')
    parser.add_argument('checkpoint', nargs='+', help='its checkpoints')
    parser.add_argument('--label', nargs='+', help='their names in the pictures')
    parser.add_argument('--out', required=True, help='folder for pictures and numbers')
    parser.add_argument('--data', choices=sorted(probe.LOADERS), default='val', help='data loader')
    parser.add_argument('--batches', type=int, default=4, help='how many are measured')
    parser.add_argument('--grid', type=int, default=21, help='points along a direction, odd')
    parser.add_argument('--extent', type=float, default=1.0, help='1: as far as weights are long')
    parser.add_argument('--log', action='store_true', help='colours by the logarithm of the loss')
    parser.add_argument('--no-surface', action='store_true', help='eigenvalues alone')
    parser.add_argument('--eigen', action='store_true', help='eigenvalues too')
    parser.add_argument('--count', type=int, default=1, help='eigenvalues of each batch')
    parser.add_argument('--hvp', choices=hessian.HVP, default='autograd', help='see mmkd.analysis')
    parser.add_argument('--step', type=float, help='of --hvp difference, relative to the weights')
    parser.add_argument('--products', type=int, default=50, help='with the Hessian, at most')
    parser.add_argument('--seed', type=int, default=0, help='of directions and batches')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=launch.ConfigOptions,
        help='key=value pairs that override the config; +key=value adds a key',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='run whatever code a checkpoint asks for; only for files whose maker you trust',
    )
    return parser.parse_args()


def surface_of(
    model: BaseModel, batches: list[Any], args: argparse.Namespace, label: str
) -> Surface:
    """The surface around the present weights."""
    parameters = probe.trainable(model)
    generator = torch.Generator().manual_seed(args.seed)
    first, second = (filter_normalised(parameters, generator) for _ in range(2))
    with probe.measured(model):
        return loss_surface(
            partial(probe.mean_loss, model, batches),
            parameters,
            first,
            second,
            args.grid,
            args.extent,
            ProgressLine(f'{label}: surface'),
        )


def eigenvalues_of(
    model: BaseModel, batches: list[Any], args: argparse.Namespace, label: str
) -> list[hessian.Eigenvalues]:
    """The largest eigenvalues of the Hessian of each batch's loss."""
    parameters, found = probe.trainable(model), []
    generator = torch.Generator().manual_seed(args.seed)
    start = torch.randn(sum(each.numel() for each in parameters), generator=generator)
    start, tell = start.to(parameters[0]), ProgressLine(f'{label}: eigenvalues')
    for number, batch in enumerate(batches, start=1):
        loss = partial(probe.batch_loss, model, batch)
        with (
            probe.measured(model),  # lets go of the teacher's results on each batch
            hessian.hessian_product(loss, parameters, args.hvp, args.step) as product,
        ):
            found.append(hessian.top_eigenvalues(product, start, args.count, args.products))
        tell(number, len(batches))
    return found


def main() -> None:
    """Measures and draws."""
    args = parse_args()
    labels = probe.checked(args.checkpoint, args.label)
    grid_steps(args.grid, args.extent)
    if args.no_surface and not args.eigen:
        raise UserError('--no-surface leaves nothing to do: add --eigen')
    cfg = launch.read_config(args.config, args.cfg_options)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    options = {key: value for key, value in vars(args).items() if key != 'checkpoint'}
    report: dict[str, Any] = dict(command=shlex.join(sys.argv), options=options, checkpoints=[])
    surfaces, spectra = {}, {}
    with trust_checkpoints(args.trust_checkpoint):
        model = probe.build_model(cfg, args.device, args.seed)
        batches = probe.take_batches(cfg, model, args.data, args.batches, args.seed)
        report['batches'] = len(batches)
        for label, path in zip(labels, args.checkpoint, strict=True):
            probe.load_weights(model, path)
            numbers: dict[str, Any] = dict(label=label, checkpoint=path)
            if not args.no_surface:
                surfaces[label] = surface_of(model, batches, args, label)
                numbers['surface'] = surfaces[label].as_dict()
            if args.eigen:
                found = eigenvalues_of(model, batches, args, label)
                spectra[label] = [value for each in found for value in each.values]
                numbers['eigenvalues'] = [vars(each) for each in found]
            report['checkpoints'].append(numbers)
            write_json(out / 'loss_landscape.json', report)
    if surfaces:
        plots.save(plots.surface_figure(surfaces, args.log), out / 'surface.png')
    if spectra:
        plots.save(plots.spectrum_figure(spectra), out / 'eigenvalues.png')
    print(f'Numbers and pictures are in {out}')


if __name__ == '__main__':
    run_tool(main)
