"""Scores of generated frames for mmengine's evaluator."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError, did_you_mean
from mmkd.cobra.schema import SLOTS, Frame
from mmkd.evaluation.frames.counterfactual import Judged, pair_scores, row_scores
from mmkd.evaluation.frames.groups import MIN_COUNT, scores_by_group
from mmkd.evaluation.frames.offensiveness import binarizer as binarizer_of
from mmkd.evaluation.frames.text import NAMES, mean_over_slots, pooled, score_slots
from mmkd.registry import METRICS

LABELS = ('label_majority', 'label_all')
"""Columns of annotators' labels."""
BINARIZED = 'binarized'
"""The label that the binarizer reads off a reference."""
_GENERATED = ('prediction', 'format_ok', 'text')
Row = dict[str, Any]


@METRICS.register_module()
class FrameMetric(BaseMetric):
    """Scores of frames that a student writes, in [0, 1], see :mod:`mmkd.evaluation.frames`.

    ``bleu2/SLOT``, ``rouge_l/SLOT``, ``chrf/SLOT``, ``exact/SLOT`` and their ``mean`` over slots,
    ``degenerate/SLOT`` where BLEU-2 says nothing, ``n/SLOT``, frames whose reference has the slot;
    ``format_ok``, the share of outputs with the right format; ``n``; and ``cf/NAME``, verdicts of
    the slot ``offensiveness`` against labels, by row and by pair, see
    :mod:`mmkd.evaluation.frames.counterfactual`. No text is logged: it is in ``out`` alone.

    Args:
        slots: that are scored as texts.
        binarizer: name of one of :mod:`mmkd.evaluation.frames.offensiveness`.
        labels: ``label_majority``, ``label_all``, ``binarized`` (what the binarizer says of the
            reference's own slot), or None: no verdicts are scored.
        any_reference: also ``bleu2_any/SLOT`` and so on, against the references of all frames of a
            statement, for students that see no context.
        by_group: also ``group/GROUP/NAME``, means over slots, format and verdicts.
        min_group: frames from which on a group has scores and not its number alone.
        out: JSONL file of predictions, one line per frame: ``frame_id``, ``prediction`` (texts by
            slot), ``offensive_bin`` (verdict), ``format_ok`` and ``text``, the output as it was.
        collect_device: see mmengine.
        prefix: see mmengine.

    Raises:
        UserError: an unknown slot, binarizer or column of labels.
    """

    def __init__(
        self,
        slots: Sequence[str] = SLOTS,
        binarizer: str = 'ours_v2',
        labels: str | None = 'label_majority',
        any_reference: bool = False,
        by_group: bool = False,
        min_group: int = MIN_COUNT,
        out: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        for slot in slots:
            _check('slot', slot, SLOTS)
        if labels is not None:
            _check('labels', labels, (*LABELS, BINARIZED))
        self.slots, self.labels, self.out = tuple(slots), labels, out
        self.verdict = binarizer_of(binarizer)
        self.any_reference, self.by_group, self.min_group = any_reference, by_group, min_group

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Notes frames.

        Args:
            data_batch: not used.
            data_samples: ``frame``, the reference, ``prediction``, texts by slot, ``format_ok`` and
                ``text`` each. A slot that is not predicted is blank.

        Raises:
            UserError: a prediction of an unknown slot.
        """
        self.results.extend(_row(sample) for sample in data_samples)

    def evaluate(self, size: int) -> dict[str, float]:
        """Scores of all ranks' frames; those that samplers repeat are known by their id."""
        return super().evaluate(sys.maxsize)

    def compute_metrics(self, results: list[Row]) -> dict[str, float]:
        """Scores, and the file ``out``, on one rank.

        Raises:
            UserError: no frames, one id of different frames, or no frame with a label.
        """
        rows = _distinct(results)
        for row in rows:
            row['offensive_bin'] = self.verdict(row['prediction']['offensiveness'])
            row['label'] = self._label(row)
        self._check_labels(rows)
        if self.out is not None:
            _write(self.out, rows)
        scores = self._texts(rows)
        scores.update(self._others(rows))
        if self.by_group:
            scores.update(self._groups(rows))
        return scores

    def _label(self, row: Row) -> int | None:
        """What the verdict is compared with."""
        if self.labels == BINARIZED:
            text = row['reference']['offensiveness']
            return self.verdict(text) if text.strip() else None
        return row['labels'].get(self.labels)

    def _check_labels(self, rows: list[Row]) -> None:
        """Whether the column has labels at all."""
        if self.labels is None or any(row['label'] is not None for row in rows):
            return
        others = [name for name in LABELS if any(row['labels'][name] is not None for row in rows)]
        raise UserError(
            f'labels={self.labels!r}: none of {len(rows)} frames has one; columns with labels: '
            f'{others}. Choose one of these or {BINARIZED!r}, or labels=None to score texts alone'
        )

    def _texts(self, rows: list[Row]) -> dict[str, float]:
        """Scores of texts, by slot and their means."""
        predictions = [row['prediction'] for row in rows]
        own = [row['reference'] for row in rows]
        of_slots = score_slots(predictions, [[each] for each in own], self.slots)
        values: dict[str, float] = {f'n/{slot}': each.n for slot, each in of_slots.items()}
        values.update({f'degenerate/{s}': float(each.degenerate) for s, each in of_slots.items()})
        values.update(_named(of_slots))
        if self.any_reference:
            several = pooled([row['statement_id'] for row in rows], own)
            values.update(_named(score_slots(predictions, several, self.slots), '_any'))
        return values

    def _others(self, rows: list[Row]) -> dict[str, float]:
        """Format and verdicts."""
        values = dict(n=len(rows), format_ok=float(np.mean([row['format_ok'] for row in rows])))
        if self.labels is not None:
            judged = [Judged(row['label'], row['offensive_bin'], row['pair_id']) for row in rows]
            found = {**row_scores(judged), **pair_scores(judged)}
            values.update({f'cf/{name}': value for name, value in found.items()})
        return values

    def _groups(self, rows: list[Row]) -> dict[str, float]:
        """Scores of groups."""

        def score(indices: np.ndarray) -> dict[str, float]:
            own = [rows[index] for index in indices]
            means = {k: v for k, v in self._texts(own).items() if k.endswith('/mean')}
            others = self._others(own)
            del others['n']
            return {**means, **others}

        found = scores_by_group([row['group'] for row in rows], score, self.min_group)
        return {
            f'group/{group}/{name}': value
            for group, values in found.items()
            for name, value in values.items()
        }


def _check(what: str, name: str, known: Sequence[str]) -> None:
    """Whether a name is known."""
    if name not in known:
        near = did_you_mean(name, known)
        raise UserError(f'{what} {name!r} is not known{near}; known: {list(known)}')


def _row(sample: Mapping[str, Any]) -> Row:
    """What is kept of a data sample, without the statement and its context."""
    frame: Frame = sample['frame']
    for slot in sample['prediction']:
        _check(f'frame {frame.frame_id}: predicted slot', slot, SLOTS)
    return dict(
        frame_id=frame.frame_id,
        statement_id=frame.statement_id,
        group=frame.group,
        pair_id=frame.pair_id,
        labels={name: getattr(frame, name) for name in LABELS},
        reference=frame.explanation(),
        prediction={slot: sample['prediction'].get(slot, '') for slot in SLOTS},
        format_ok=bool(sample['format_ok']),
        text=sample['text'],
    )


def _distinct(results: list[Row]) -> list[Row]:
    """The first row of each frame."""
    rows: dict[str, Row] = {}
    for row in results:
        first = rows.setdefault(row['frame_id'], row)
        if any(first[key] != row[key] for key in row if key not in _GENERATED):
            raise UserError(f'frame id {row["frame_id"]} is that of two different frames')
    if not rows:
        raise UserError('there are no frames to score: check the data set of the evaluation')
    return list(rows.values())


def _named(of_slots: Mapping[str, Any], suffix: str = '') -> dict[str, float]:
    """Scores by name and slot, and their means."""
    values = {f'{n}{suffix}/{s}': getattr(of_slots[s], n) for n in NAMES for s in of_slots}
    if of_slots:
        values.update({f'{n}{suffix}/mean': v for n, v in mean_over_slots(of_slots).items()})
    return values


def _write(path: str, rows: list[Row]) -> None:
    """Writes the predictions."""
    names = ('frame_id', 'prediction', 'offensive_bin', 'format_ok', 'text')
    lines = (json.dumps({key: row[key] for key in names}, ensure_ascii=False) for row in rows)
    content = ''.join(line + '\n' for line in lines).encode()
    write_atomic(path, lambda file: file.write(content))
