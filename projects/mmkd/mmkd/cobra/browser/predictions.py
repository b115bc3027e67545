"""Predictions of explanations, read from JSON lines."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from mmdistill.core.errors import UserError
from mmkd.cobra.schema import SLOTS, Frame, Label
from mmkd.traces.schema import Record, read_record


class Prediction(Record):
    """What a model has written about a frame.

    Attributes:
        frame_id: of the frame.
        prediction: texts by slot; a slot that is left out was not found.
        format_ok: whether the generated text could be parsed as a whole.
        offensive_bin: 1: offensive, 0: not, None: the prediction does not say.
        text: as it was generated.
    """

    frame_id: str
    prediction: dict[str, str]
    format_ok: bool
    offensive_bin: Literal[0, 1] | None = None
    text: str = ''

    @field_validator('prediction')
    @classmethod
    def _slots(cls, value: dict[str, str]) -> dict[str, str]:
        """Refuses other slots, without a word of them."""
        if not set(value) <= set(SLOTS):
            raise ValueError(f'has a slot that there is not, there are {", ".join(SLOTS)}')
        return value


def read_predictions(path: str | Path, known: Collection[str]) -> dict[str, Prediction]:
    """Predictions by ``frame_id``, from JSON lines; blank lines count for nothing.

    Args:
        path: of the file.
        known: ids of the frames.

    Raises:
        UserError: no such file, a malformed line, an unknown frame, or a second prediction for
            one; the message names file and line and holds no text of a prediction.
    """
    path, found = Path(path), {}
    if not path.is_file():
        raise UserError(f'{path}: there is no such file')
    known = frozenset(known)
    with path.open('rb') as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f'{path}:{number}'
            each = read_record(Prediction, line, where)
            if each.frame_id not in known:
                raise UserError(
                    f'{where}: there is no frame {each.frame_id!r:.80}; name the file of frames '
                    'that the predictions were made for'
                )
            if each.frame_id in found:
                raise UserError(
                    f'{where}: there is a prediction for frame {each.frame_id!r:.80} already; '
                    'keep one of them'
                )
            found[each.frame_id] = each
    return found


def reference_label(frame: Frame) -> Label | None:
    """The majority of the annotators where they were asked, otherwise the binarizer's word."""
    return frame.offensive_bin if frame.label_majority is None else frame.label_majority


def is_wrong(frame: Frame, prediction: Prediction) -> bool:
    """Whether a prediction misses a label of 0 or 1; one that says nothing misses it too."""
    return reference_label(frame) in (0, 1) and prediction.offensive_bin != reference_label(frame)
