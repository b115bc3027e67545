"""Prints a config with its bases and ``--cfg-options`` merged."""

import argparse

from mmdistill.core import launch
from mmdistill.core.errors import UserError, run_tool


def main() -> None:
    """Prints, or writes to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--save-path', help='write the config to this .py, .json or .yml file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=launch.ConfigOptions,
        help='key=value pairs that override the config; +key=value adds a key',
    )
    args = parser.parse_args()
    cfg = launch.read_config(args.config, args.cfg_options)
    if args.save_path is None:
        print(cfg.pretty_text)
    elif args.save_path.endswith(('.py', '.json', '.yml', '.yaml')):
        cfg.dump(args.save_path)
    else:
        raise UserError(f'--save-path {args.save_path}: must end in .py, .json or .yml')


if __name__ == '__main__':
    run_tool(main)
