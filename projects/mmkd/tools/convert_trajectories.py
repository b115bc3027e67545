"""Converts trajectories of experts from and to the ``replay_buffer_{n}.pt`` of MTT, FTD and DATM.

``import`` takes the network and the data set that the experts have learned from the config of a
training of experts: a distillation checks them when it opens the store.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmdistill.core import launch
from mmdistill.core.errors import UserError, run_tool
from mmkd.experts.replay_buffer import export_buffers, import_buffers
from mmkd.experts.store import TrajectoryStore
from mmkd.experts.training import plain
from mmkd.registry import DATASETS, MODELS


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = parser.add_subparsers(dest='task', required=True)
    reading = tasks.add_parser('import', help='replay buffers to a store')
    reading.add_argument('config', help='config of a training of such experts')
    reading.add_argument('files', nargs='+', type=Path, help='replay buffers, in their order')
    reading.add_argument('--out', required=True, help='folder of the store')
    reading.add_argument(
        '--cfg-options',
        nargs='+',
        action=launch.ConfigOptions,
        help='key=value pairs that override the config; +key=value adds a key',
    )
    writing = tasks.add_parser('export', help='a store to replay buffers')
    writing.add_argument('store', help='folder of the store')
    writing.add_argument('--out', required=True, help='folder of the replay buffers')
    writing.add_argument('--per-file', type=int, default=10, help='experts of a file')
    return parser.parse_args()


def imported(args: argparse.Namespace) -> TrajectoryStore:
    """The store that was made of replay buffers."""
    cfg = launch.read_config(args.config, args.cfg_options)
    network = (cfg.get('model') or {}).get('network')
    data = (cfg.get('train_dataloader') or {}).get('dataset')
    if not network or not data:
        raise UserError(
            f'{args.config}: model.network and train_dataloader.dataset are needed; name the '
            'config of a training of experts'
        )
    about = dict(
        network=plain(network), data=DATASETS.build(data).digest, training='replay buffers'
    )
    return import_buffers(args.files, args.out, MODELS.build(dict(network)), about)


def main() -> None:
    """Converts."""
    args = parse_args()
    if args.task == 'import':
        store = imported(args)
        print(f'{store.experts} experts of {store.epochs} epochs are in {args.out}')
    else:
        written = export_buffers(TrajectoryStore.open(args.store), args.out, args.per_file)
        print(f'{len(written)} replay buffers are in {args.out}')


if __name__ == '__main__':
    run_tool(main)
