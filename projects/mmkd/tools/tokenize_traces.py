"""Makes a table of tokens of the accepted traces of a teacher, for training with packed samples."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdistill.core.errors import run_tool
from mmkd.datasets.tokenizers import load_tokenizer
from mmkd.language.packing import PACKERS
from mmkd.language.table_writer import write_table
from mmkd.language.templates import EMPTY_SYSTEM, TEMPLATES
from mmkd.language.token_table import TokenTable
from mmkd.language.tokenize import OVER_LENGTH
from mmkd.language.trace_rows import TraceRows

SECONDS = 10
"""Between two lines of progress."""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('traces', nargs='+', help='Parquet files, JSON lines, or folders of them')
    parser.add_argument('--out', required=True, help='folder of the table, new or empty')
    parser.add_argument('--tokenizer', required=True, help='folder of save_pretrained')
    parser.add_argument('--template', choices=list(TEMPLATES), default='plain')
    parser.add_argument(
        '--empty-system',
        choices=EMPTY_SYSTEM,
        default='omit',
        help='what becomes of the turn of an empty system message',
    )
    parser.add_argument('--ending', help="token that ends an answer; by default the tokenizer's")
    parser.add_argument('--max-len', type=int, default=2048, help='tokens of an example at most')
    parser.add_argument('--over-length', choices=OVER_LENGTH, default='drop')
    return parser.parse_args(argv)


class Progress:
    """Writes a line to stderr now and then."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()

    def __call__(self, counts: Mapping[str, int]) -> None:
        """Tells how far it is."""
        now = time.monotonic()
        if now - self._last >= SECONDS:
            self._last = now
            rate = counts['read'] / (now - self._start)
            print(f'{counts["read"]:,} traces, {rate:,.0f} a second', file=sys.stderr)


def summary(table: TokenTable) -> str:
    """What is in a table, and how full packs of its examples are."""
    counts, cap = table.meta.counts, table.meta.max_len
    lines = [
        f'{counts["kept"]:,} of {counts["read"]:,} accepted traces are in {table.folder}: '
        f'{counts["dropped"]:,} too long, {counts["empty"]:,} empty; {counts["truncated"]:,} cut',
        f'{counts["tokens"]:,} tokens, {counts["tokens"] / counts["kept"]:.1f} per example, '
        f'{counts["response_tokens"] / counts["tokens"]:.1%} of them learned',
    ]
    skipped = table.meta.source.get('skipped')
    if skipped:
        told = ', '.join(f'{count:,} {status}' for status, count in sorted(skipped.items()))
        lines.insert(1, f'not accepted: {told}')
    for name, packer in PACKERS.items():
        packs = packer(table.lengths, cap, (0,))
        lines.append(
            f'{name:>8}: {len(packs):,} packs of {cap}, {packs.efficiency(table.lengths, cap):.1%} '
            f'full, {len(table) / len(packs):.2f} examples each'
        )
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the table and tells what is in it."""
    args = parse_args(argv)
    rows = TraceRows(args.traces)
    table = write_table(
        Path(args.out),
        rows,
        load_tokenizer(args.tokenizer),
        dict(name=args.template, empty_system=args.empty_system, ending=args.ending),
        args.max_len,
        args.over_length,
        rows.source,
        Progress(),
    )
    print(summary(table))
    return 0


if __name__ == '__main__':
    run_tool(main)
