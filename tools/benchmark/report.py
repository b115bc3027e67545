"""Makes the documents' tables and plots from ``docs/results/*.json``.

Beside each file a ``.md`` and a ``.png`` are written, and the text between the markers
``<!-- results:NAME -->`` and ``<!-- /results:NAME -->`` in README.md, docs and the READMEs of
configs is replaced; NAME is the method's for its gain, ``NAME-main`` for the first table of it
alone, ``NAME-speed`` for its speed. ``--check`` writes nothing and fails when something is out of
date.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmark import methods
from benchmark.charts import Curve, save_bars, save_curves
from benchmark.jobs import clock
from benchmark.tables import comparison, markdown_table
from benchmark.training import ROOT

RESULTS = Path('docs', 'results')


def marker_of(result: dict) -> str:
    """The name in the markers of a result."""
    return result['name'] + ('-speed' if result.get('kind') == 'speed' else '')


def gain_table(result: dict, main: bool = False) -> str:
    """Markdown of a gain benchmark: its tables, what they show and where they come from.

    Args:
        result: content of the JSON file.
        main: the first table alone.
    """
    gain = methods.find(result['name']).GAIN
    seeds = ', '.join(map(str, result['seeds']))
    kind = f'seeds {seeds}' if len(result['seeds']) > 1 else f'seed {seeds}'
    if len(result['seeds']) > 1:
        kind = f'mean ± standard deviation over {kind}'
    tables = gain.tables(result['summary'])[: 1 if main else None]
    if main:
        labels = {line['label'] for line in tables[0].summary}
        rows = [row for row in result['rows'] if row['label'] in labels]
        # the last call may have been one for other tables
        result = {**result, 'rows': rows, 'command': f'{RESULTS}/{result["name"]}_gain.json'}
    parts = []
    for each in tables:
        cells = comparison(each.summary, each.columns)
        table = [
            [f'**{c}**' if c and line[0] == each.method else c for c in line] for line in cells
        ]
        parts += [markdown_table(table), each.caption]
    parts[-1] += f' {kind.capitalize()}. {origin(result)}'
    return '\n\n'.join(parts)


def speed_table(result: dict) -> str:
    """Markdown of a speed benchmark: rows as they were measured."""
    cells = [['', 'measure', 'value']]
    for row in result['rows']:
        for index, (name, value) in enumerate(row['metrics'].items()):
            shown = '' if value is None else f'{value:.4g}'
            cells.append([row['label'] if index == 0 else '', name, shown])
    head = f'Training step over its unavoidable work: **{result["ratio"]:.2f}**.'
    notes = ''.join(f' {note}.' for note in result.get('notes', []))
    return f'{markdown_table(cells)}\n\n{head}{notes} {origin(result)}'


def origin(result: dict) -> str:
    """How a result was made, in a sentence or two."""
    hardware = result.get('hardware', {})
    on = f'{hardware.get("cores", "?")} cores of {hardware.get("cpu", "an unknown processor")}'
    if 'gpu' in hardware:
        on += f', {hardware["gpu"]}'
    torch = result['versions'].get('torch', '?')
    # rows of a gain were made by several calls, and perhaps by several commits
    commits = dict.fromkeys(row['commit'] for row in result['rows'] if 'commit' in row)
    seconds = result['wall_seconds']
    if commits:
        seconds = sum(row['seconds'] for row in result['rows'])
    made_by = f'commit{"s" * (len(commits) > 1)} {", ".join(commits or [result["commit"]])}'
    text = f'`{result["command"]}`, {made_by}, torch {torch}, {on}, {clock(seconds)}.'
    return text + (' A quick run, too short to mean anything.' if result.get('quick') else '')


def contents(result: dict) -> dict[str, str]:
    """Markdown of a result by marker, the whole one first."""
    if result.get('kind') == 'speed':
        return {marker_of(result): speed_table(result)}
    name = marker_of(result)
    return {name: gain_table(result), f'{name}-main': gain_table(result, main=True)}


def plot(result: dict, path: Path, stamp: str) -> None:
    """The picture of a result."""
    if result.get('kind') == 'speed':
        parts = [row for row in result['rows'] if row['label'].endswith('parts of the step, ms')]
        bars = [(k, v, 0.0, [v]) for row in parts[:1] for k, v in row['metrics'].items()]
        bars = [bar for bar in bars if bar[1] is not None]
        save_bars(path, f'{result["name"]}: parts of the training step, ms', bars, stamp=stamp)
        return
    gain = methods.find(result['name']).GAIN
    if charts := curves(result, gain):
        save_curves(path, charts, stamp=stamp)
        return
    bars = []
    for each in gain.tables(result['summary'])[0].summary:
        if each['metric'] == gain.metric:
            rows = [row for row in result['rows'] if row['label'] == each['label']]
            values = [row['metrics'].get(gain.metric) for row in rows]
            values = [value for value in values if value is not None]
            bars.append((each['label'], each['mean'], each['std'], values))
    save_bars(path, gain.metric, bars, gain.rows[gain.method], stamp)


def curves(result: dict, gain: methods.Gain) -> dict[str, dict[str, Curve]]:
    """Means over seeds of what validations found on the way, by table and row."""
    found: dict[str, dict[str, Curve]] = {}
    for each in gain.tables(result['summary']):
        for label in dict.fromkeys(line['label'] for line in each.summary):
            rows = [row for row in result['rows'] if row['label'] == label and row.get('curve')]
            if rows:
                steps = [step for step, _ in rows[0]['curve']]
                values = [[value for _, value in row['curve']] for row in rows]
                mean = [sum(column) / len(column) for column in zip(*values, strict=True)]
                found.setdefault(each.title or gain.metric, {})[label] = (steps, mean)
    return found


def replaced(text: str, name: str, content: str) -> str:
    """A document with the text between its markers of this name replaced.

    Raises:
        SystemExit: a marker without its partner.
    """
    opening, closing = f'<!-- results:{name} -->', f'<!-- /results:{name} -->'
    if text.count(opening) != text.count(closing):
        raise SystemExit(f'report: {opening} and {closing} must come in pairs')
    pattern = re.escape(opening) + '.*?' + re.escape(closing)
    return re.sub(pattern, lambda _: f'{opening}\n{content}\n{closing}', text, flags=re.DOTALL)


def update(root: Path, check: bool) -> list[str]:
    """Writes what is out of date, or only names it.

    Args:
        root: of the repository.
        check: writes nothing.

    Returns:
        Files that were out of date, relative to the root.
    """
    changed = []
    pages = [*root.glob('README.md'), *root.glob('docs/**/*.md'), *root.glob('configs/*/README.md')]
    pages = [page for page in pages if RESULTS not in page.relative_to(root).parents]
    documents = {page: page.read_text() for page in sorted(pages)}
    before = dict(documents)
    for source in sorted((root / RESULTS).glob('*.json')):
        result = json.loads(source.read_text())
        parts, name = contents(result), marker_of(result)
        page = source.with_suffix('.md')
        documents[page] = f'# {name}\n\n{parts[name]}\n\n![]({source.stem}.png)\n'
        before[page] = page.read_text() if page.is_file() else ''
        picture, stamp = source.with_suffix('.png'), f'made of {digest(source)}'
        if not picture.is_file() or stamp.encode() not in picture.read_bytes():
            changed.append(picture)
            if not check:
                plot(result, picture, stamp)
        for path in documents:
            if RESULTS not in path.relative_to(root).parents:
                for marker, content in parts.items():
                    documents[path] = replaced(documents[path], marker, content)
    for path, text in documents.items():
        if text != before[path]:
            changed.append(path)
            if not check:
                path.write_text(text)
    return [str(path.relative_to(root)) for path in changed]


def digest(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing, fail if out of date')
    parser.add_argument('--root', type=Path, default=ROOT, help='of the repository')
    args = parser.parse_args(argv)
    changed = update(args.root.absolute(), args.check)
    for path in changed:
        print(f'{path}: {"out of date" if args.check else "written"}')
    if not changed:
        print('everything is up to date')
    elif args.check:
        print('run: python tools/benchmark/report.py', file=sys.stderr)
    return 1 if args.check and changed else 0


if __name__ == '__main__':
    sys.exit(main())
