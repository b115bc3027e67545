"""Makes the page: one file of HTML that holds its data and loads nothing.

Statements may be hurtful. The page shows none of their text before the reader has accepted a
warning, every time it is loaded, and its policy (Content-Security-Policy) keeps it from running
or fetching anything but its own two pieces of script and style, which it knows by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError
from mmkd.cobra.browser.predictions import Prediction, is_wrong, reference_label
from mmkd.cobra.schema import CONTEXT, SLOTS, Frame

_FOLDER = Path(__file__).parent
_STYLES = ('colours.css', 'browser.css')
_SCRIPTS = ('frame_view.js', 'browser.js')
_NAMES = dict(
    situation='Situation',
    speaker='Speaker',
    listener='Listener',
    intent='Intent',
    target_group='Target group',
    power='Power dynamics',
    implication='Implication',
    emotional='Emotional reaction',
    cognitive='Cognitive reaction',
    offensiveness='Offensiveness',
)
_LABELS = ('label_majority', 'label_all', 'offensive_bin', 'more_offensive')


def write_browser(
    path: str | os.PathLike,
    frames: Iterable[Frame],
    predictions: Mapping[str, Prediction] | None = None,
    title: str = 'Frames',
) -> None:
    """Writes a page to look through frames, whole or not at all.

    Args:
        path: of the HTML file; its folder is made when missing.
        frames: in the order of the list, each id once.
        predictions: by ``frame_id``, see
            :func:`~mmkd.cobra.browser.predictions.read_predictions`.
        title: of the page; it is shown before the warning is accepted.

    Raises:
        UserError: two frames have one id, or a prediction has no frame.
    """
    content = browser_page(frames, predictions or {}, title).encode()
    write_atomic(path, lambda file: file.write(content))


def browser_page(frames: Iterable[Frame], predictions: Mapping[str, Prediction], title: str) -> str:
    """The page that :func:`write_browser` writes."""
    style = '\n'.join(_read(name) for name in _STYLES)
    script = '\n'.join(_read(name) for name in _SCRIPTS)
    parts = dict(
        policy=_policy(script, style),
        title=html.escape(title),
        style=style,
        data=embedded_json(page_data(frames, predictions)),
        script=script,
    )
    return re.sub(r'\{\{(\w+)\}\}', lambda found: parts[found[1]], _read('browser.html'))


def page_data(frames: Iterable[Frame], predictions: Mapping[str, Prediction]) -> dict[str, Any]:
    """What the script of the page works on, JSON.

    Returns:
        ``context`` and ``slots``, pairs of a key and its name in words, and ``frames``; a frame has
        its texts, ``label`` (1, 0, -1 or None), ``labels`` by where they come from, ``about``
        (pairs of a name and a text) and maybe a ``prediction``.

    Raises:
        UserError: two frames have one id, or a prediction has no frame.
    """
    rows: dict[str, dict[str, Any]] = {}
    for frame in frames:
        if frame.frame_id in rows:
            raise UserError(
                f'two frames have the id {frame.frame_id!r:.80}; a page needs a different one for '
                'each'
            )
        rows[frame.frame_id] = _row(frame, predictions.get(frame.frame_id))
    homeless = next((each for each in predictions if each not in rows), None)
    if homeless is not None:
        raise UserError(f'a prediction is for frame {homeless!r:.80}, which the page does not have')
    named = {
        group: [[name, _NAMES[name]] for name in names]
        for group, names in (('context', CONTEXT), ('slots', SLOTS))
    }
    return dict(**named, frames=list(rows.values()))


def embedded_json(value: Any) -> str:
    """JSON in ASCII without a character that begins or ends a tag, a comment or an entity."""
    text = json.dumps(value, separators=(',', ':'))
    return text.replace('<', r'\u003c').replace('>', r'\u003e').replace('&', r'\u0026')


def _row(frame: Frame, prediction: Prediction | None) -> dict[str, Any]:
    """A frame as :func:`page_data` has it."""
    keys = ('statement', 'pair_id', 'side', 'group', 'source', 'split')
    row = frame.model_dump(include={*keys, *CONTEXT, *SLOTS})
    labels = {name: getattr(frame, name) for name in _LABELS}
    row.update(
        id=frame.frame_id,
        label=reference_label(frame),
        labels={name: label for name, label in labels.items() if label is not None},
        about=_about(frame),
    )
    if prediction is not None:
        row['prediction'] = dict(
            slots=prediction.prediction,
            format_ok=prediction.format_ok,
            binary=prediction.offensive_bin,
            text=prediction.text,
            wrong=is_wrong(frame, prediction),
        )
    return row


def _about(frame: Frame) -> list[tuple[str, str]]:
    """Where a frame comes from, as pairs of a name and a text."""
    told = dict(frame_id=frame.frame_id, statement_id=frame.statement_id, pair_id=frame.pair_id)
    told.update(frame.provenance.model_dump(mode='json'))
    told['attempts'] = told['attempts'] or ''
    named = [(name.replace('_', ' '), str(value)) for name, value in told.items() if value]
    return [*named, *((name, value) for name, value in frame.extra.items() if value)]


def _policy(script: str, style: str) -> str:
    """Nothing is allowed but this script and this style."""
    allowed = {'default-src': "'none'", 'base-uri': "'none'", 'form-action': "'none'"}
    for kind, content in (('script-src', script), ('style-src', style)):
        known = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        allowed[kind] = f"'sha256-{known}'"
    return '; '.join(f'{name} {value}' for name, value in allowed.items())


def _read(name: str) -> str:
    """A file of this package."""
    return (_FOLDER / name).read_text(encoding='utf-8')
