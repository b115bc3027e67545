"""Brings CSV files of COBRA frames into one Parquet file, without a change to any text.

The files hold offensive statements: ``--accept-content-warning`` says that you know. Nothing but
counts is printed.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmdistill.core.errors import UserError, run_tool
from mmkd.cobra.schema import CONTEXT, SLOTS, Frame
from mmkd.cobra.tables.importers import read_frames_csv, read_own_csv
from mmkd.cobra.tables.pairing import join_tables, pair_by_statement, read_pairs_csv
from mmkd.cobra.tables.splits import STRATA, grouped_split, official_split, straddling
from mmkd.cobra.tables.table import write_frames
from mmkd.traces.compact import file_digest


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('files', nargs='+', type=Path, help='CSV')
    parser.add_argument('--out', type=Path, required=True, help='Parquet file')
    parser.add_argument(
        '--accept-content-warning', action='store_true', help='the statements may be offensive'
    )
    parser.add_argument(
        '--format',
        choices=['released', 'wide', 'own'],
        default='released',
        help='columns: as released, with harmless_* and offensive_*, or named as in a table',
    )
    parser.add_argument('--source', help='name of the data; the name of each file by default')
    parser.add_argument('--group-column', default='group', help='that names the group')
    parser.add_argument('--split', choices=['official', 'grouped'], help='none by default')
    parser.add_argument('--val', type=float, help='share of the validation set, for grouped: 0.1')
    parser.add_argument('--seed', type=int, help='for grouped: 0')
    parser.add_argument('--stratify', choices=STRATA, help='for grouped: only sizes count')
    parser.add_argument('--pairs', action='store_true', help='pair the contexts of statements')
    parser.add_argument('--undecided', action='store_true', help='pair those without labels too')
    return parser.parse_args(argv)


def tables_of(args: argparse.Namespace) -> list[list[Frame]]:
    """The frames of each file."""
    if args.format == 'own':
        if args.group_column != 'group':
            raise UserError('--group-column is for files as released, and for wide ones')
        read = read_own_csv
    else:
        which = read_pairs_csv if args.format == 'wide' else read_frames_csv
        read = partial(which, group_column=args.group_column)
    accept = args.accept_content_warning
    return [read(each, source=args.source, accept_content_warning=accept) for each in args.files]


def split_of(frames: list[Frame], args: argparse.Namespace) -> list[Frame]:
    """The frames with the split that is asked for."""
    if args.split != 'grouped':
        for name in ('val', 'seed', 'stratify'):
            if getattr(args, name) is not None:
                raise UserError(f'--{name} needs --split grouped')
        return official_split(frames) if args.split else frames
    val = 0.1 if args.val is None else args.val
    if not 0 < val < 1:
        raise UserError(f'--val: must be between 0 and 1, got {val}')
    return grouped_split(frames, dict(train=1 - val, val=val), args.seed or 0, args.stratify)


def counts_of(frames: Sequence[Frame]) -> dict[str, object]:
    """What there is of everything."""
    different = {(frame.statement, *frame.context().values()) for frame in frames}
    counts: dict[str, object] = dict(
        frames=len(frames),
        statements=len({frame.statement_id for frame in frames}),
        repeats=len(frames) - len(different),
        pairs=len({frame.pair_id for frame in frames} - {None}),
        straddling=straddling(frames),
        splits=Counter(frame.split for frame in frames if frame.split),
        empty=Counter(name for frame in frames for name in frame.missing(CONTEXT + SLOTS)),
    )
    for name in ('label_majority', 'label_all'):
        values = [getattr(frame, name) for frame in frames]
        counts[name] = Counter(str(value) for value in values if value is not None)
    return counts


def main(argv: Sequence[str] | None = None) -> int:
    """Imports."""
    args = parse_args(argv)
    if args.undecided and not args.pairs:
        raise UserError('--undecided needs --pairs')
    tables = tables_of(args)
    frames = split_of(join_tables(tables), args)
    if not frames:
        raise UserError(f'{args.files[0]}: there are no frames to import')
    if args.pairs:
        frames = pair_by_statement(frames, undecided=args.undecided)
    counts = counts_of(frames)
    options = {
        name: getattr(args, name)
        for name in ('format', 'split', 'val', 'seed', 'stratify', 'pairs', 'undecided')
    }
    inputs = [
        dict(file=path.name, sha256=file_digest(path), frames=len(table))
        for path, table in zip(args.files, tables, strict=True)
    ]
    write_frames(args.out, frames, dict(inputs=inputs, options=options, counts=counts))
    for about in inputs:
        print(f'{about["file"]}: {about["frames"]} frames')
    for name, found in counts.items():
        if isinstance(found, Counter):
            found = ', '.join(f'{key} {count}' for key, count in sorted(found.items()))
        if found:
            print(f'{name}: {found}')
    print(f'{len(frames)} frames are in {args.out}')
    return 0


if __name__ == '__main__':
    run_tool(main)
