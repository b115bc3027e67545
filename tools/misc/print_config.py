"""Prints a config with its bases and ``--cfg-options`` merged."""

import argparse

from mmengine.config import DictAction

from mmdistill.core import launch
from mmdistill.core.errors import run_tool


def main() -> None:
    """Prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='key=value pairs')
    args = parser.parse_args()
    print(launch.read_config(args.config, args.cfg_options).pretty_text)


if __name__ == '__main__':
    run_tool(main)
