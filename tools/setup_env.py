"""Makes ``.venv`` with the tested matrix of packages; called by ``make setup``.

Runs on the system's Python with the standard library alone. Every stage leaves a
stamp when it is done, so a call after an interruption goes on where the last one
stopped, and a call with nothing to do returns at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def parse_args(argv=None) -> argparse.Namespace:
    """Reads the command line.

    Args:
        argv: Arguments, ``sys.argv[1:]`` by default.

    Returns:
        ``cuda`` is None when the route of the last call is to be kept.
    """
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--cuda', help='1: GPU route, 0: CPU route; default: as the last time')
    parser.add_argument(
        '--explicit-python',
        action='store_true',
        help='this very Python is wanted: rebuild a .venv made with another one',
    )
    parser.add_argument('--repair', action='store_true', help='look for damage, redo all stages')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Sets up and returns the exit code: 0 done, 1 a stage failed, 2 something is missing."""
    args = parse_args(argv)
    from setup_steps import engine, pythons

    if not pythons.supported(sys.version_info):
        if args.explicit_python:
            print(pythons.refusal(sys.executable, sys.version_info), file=sys.stderr)
            return 2
        other = pythons.find(ROOT)
        if other is None:
            print(pythons.refusal(sys.executable, sys.version_info), file=sys.stderr)
            return 2
        os.execv(other, [other, str(Path(__file__).resolve()), *(argv or sys.argv[1:])])
    return engine.main(ROOT, args.cuda, args.explicit_python, args.repair)


if __name__ == '__main__':
    sys.exit(main())
