"""Takes one branch out of a checkpoint: the plain model's config loads it."""

import argparse
import os
from pathlib import Path

import torch

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.compat import safe_load
from mmdistill.core.errors import UserError, run_tool
from mmdistill.core.plain_checkpoint import BRANCHES, plain_checkpoint


def export_branch(
    checkpoint: str | os.PathLike, out: str | os.PathLike, branch: str, trust: bool = False
) -> int:
    """Writes one branch of a checkpoint as the plain host model would have saved it.

    Optimizer, schedulers and the state of the training stay behind, ``meta`` is kept.

    Args:
        checkpoint: a checkpoint of a student-teacher model.
        out: the new file; it appears complete or not at all.
        branch: ``'student'``, ``'teacher'`` or ``'reviewer'``.
        trust: load whatever the pickle asks for.

    Returns:
        Number of tensors written.

    Raises:
        UserError: no such file, not a checkpoint, no such branch in it, or both files the same.
    """
    source, target = Path(checkpoint).expanduser(), Path(out).expanduser()
    if target.is_dir():
        raise UserError(f'{target} is a folder: name the file to write')
    if source.exists() and target.exists() and source.samefile(target):
        raise UserError(f'{source} would be overwritten: name another file for the result')
    loaded = safe_load(source, trust=trust)
    if not isinstance(loaded, dict):
        raise UserError(f'{source} holds a {type(loaded).__name__}, no checkpoint')
    try:
        plain = plain_checkpoint(loaded, branch)
    except UserError as error:
        raise UserError(f'{source}: {error}') from error
    write_atomic(target, lambda file: torch.save(plain, file))
    return len(plain['state_dict'])


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='checkpoint of a student-teacher model')
    parser.add_argument('out', help='file to write')
    parser.add_argument('--branch', choices=BRANCHES, default='student')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='run whatever code the checkpoint asks for; only for files whose maker you trust',
    )
    return parser.parse_args()


def main() -> None:
    """Exports a branch and says what it wrote."""
    args = parse_args()
    count = export_branch(args.checkpoint, args.out, args.branch, args.trust_checkpoint)
    print(f'{args.out}: {count} tensors of the {args.branch}')


if __name__ == '__main__':
    run_tool(main)
