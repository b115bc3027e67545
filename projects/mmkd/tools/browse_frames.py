"""Makes a page to look through COBRA frames, and predictions of them, in any browser.

The page is one file that loads nothing and sends nothing, and it holds the text of all its frames:
keep it where the data are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmdistill.core.errors import UserError, run_tool
from mmkd.cobra.browser.page import write_browser
from mmkd.cobra.browser.predictions import is_wrong, read_predictions
from mmkd.cobra.tables.csv_rows import require_consent
from mmkd.cobra.tables.table import read_frames


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('frames', type=Path, help='Parquet file or JSON lines of frames')
    parser.add_argument('--predictions', type=Path, help='JSON lines of predictions')
    parser.add_argument('--out', type=Path, required=True, help='page to write, *.html')
    parser.add_argument('--limit', type=int, help='frames of the page, the first ones')
    parser.add_argument('--title', default='Frames', help='of the page')
    parser.add_argument(
        '--accept-content-warning',
        action='store_true',
        help='the frames may hold offensive statements, and the page will hold them too',
    )
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """Refuses what cannot be meant."""
    require_consent(args.accept_content_warning)
    if args.out.suffix.lower() not in ('.html', '.htm'):
        raise UserError(f'--out {args.out}: a page is written, name it *.html')
    if args.limit is not None and args.limit < 1:
        raise UserError(f'--limit {args.limit}: must be at least 1')


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the page and tells how much is on it."""
    args = parse_args(argv)
    check(args)
    frames = read_frames(args.frames)
    predictions = {}
    if args.predictions:
        predictions = read_predictions(args.predictions, {each.frame_id for each in frames})
    frames = frames[: args.limit]
    pairs = [(each, predictions[each.frame_id]) for each in frames if each.frame_id in predictions]
    write_browser(args.out, frames, {each.frame_id: made for each, made in pairs}, args.title)
    counts = f'{len(frames)} frames'
    if pairs:
        failures = sum(not made.format_ok for _, made in pairs)
        wrong = sum(is_wrong(frame, made) for frame, made in pairs)
        counts += f', {len(pairs)} predictions, {failures} parse failures, {wrong} wrong labels'
    print(f'{counts} are in {args.out}')
    return 0


if __name__ == '__main__':
    run_tool(main)
