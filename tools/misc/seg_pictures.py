"""Pictures of one step of a semi-supervised segmentor: its branches, and what it teaches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from semi_segmentation import Pass, Step, Targets, Training, pictures, steps, targets

from mmdistill.core.errors import UserError
from mmdistill.seg.seg_plot import AGREEMENT, SegPanel, agreement, save_segs
from mmdistill.seg.semi_seg import SemiSeg


def outline(one: Pass, row: int) -> np.ndarray | None:
    """(H, W) bool, what is pasted into an image; None without mixing."""
    return None if one.view.mask is None else one.view.mask[row, 0].numpy()


def donor(one: Pass, row: int) -> tuple[np.ndarray, str]:
    """(3, H, W) the image that a mix takes pixels from, and what it is."""
    if one.view.partner is None:
        return one.images.labeled[row], 'the labelled image'
    return one.images.unlabeled[one.view.partner[row]], 'another unlabelled one'


def branch_panels(model: SemiSeg, one: Pass, row: int) -> list[SegPanel]:
    """Labelled image, unlabelled image, what is pasted, and the student's view."""

    def picture(image: np.ndarray) -> np.ndarray:
        return pictures(model, image[None])[0]

    panels, images, mask = [], one.images, outline(one, row)
    if row < len(images.labeled):
        panels = [
            SegPanel('labelled image', picture(images.labeled[row])),
            SegPanel('its labels', labels=images.labels[row].numpy()),
        ]
    panels.append(SegPanel('unlabelled image', picture(images.unlabeled[row])))
    if mask is not None:
        image, name = donor(one, row)
        note = f'{mask.mean():.0%}, from {name}' if mask.any() else 'nothing in this step'
        panels.append(SegPanel('what is pasted', picture(image), shown=mask, note=note))
    view = f"student's view, {one.name}"
    return [*panels, SegPanel(view, picture(one.view.images[row]), outline=mask)]


def labeled_panels(model: SemiSeg, step: Step, row: int) -> list[SegPanel]:
    """A labelled image, where a training has no others."""
    image, labels = step.batch.labeled[row : row + 1], step.batch.labels[row].numpy()
    return [
        SegPanel('labelled image', pictures(model, image)[0]),
        SegPanel('its labels', labels=labels),
    ]


def taught_panels(model: SemiSeg, step: Step, found: Targets, row: int) -> list[list[SegPanel]]:
    """What the teacher finds and how sure it is; whether it is right; what the student follows."""
    real, count = step.passes[0], model.student.num_classes
    pseudo, weight = found.labels[row].numpy(), found.weight[row].numpy()
    mask = outline(real, row)
    first = [
        SegPanel('unlabelled image', pictures(model, real.images.unlabeled[row : row + 1])[0]),
        SegPanel("teacher's pseudo labels", labels=pseudo),
        SegPanel('its confidence', values=found.confidence[row].numpy()),
        SegPanel(f'weight of its pixels, mean {weight.mean():.2f}', values=weight),
    ]
    second = [
        SegPanel("student's view", pictures(model, real.view.images[row : row + 1])[0],
                 outline=mask),
        SegPanel('labels that it follows', labels=found.mixed[row].numpy(), outline=mask),
    ]  # fmt: skip
    if real.images.hidden is not None:
        truth = real.images.hidden[row].numpy()
        same = agreement(pseudo, truth, count)
        known, right = (same < 2).sum(), (same == 0).sum()
        note = f'{right / known:.0%} of known pixels are right' if known else ''
        second[:0] = [
            SegPanel('hidden truth', labels=truth),
            SegPanel('right and wrong pseudo labels', labels=same, palette=AGREEMENT, note=note),
        ]
    return [first, second]


def branches(training: Training, wanted: Sequence[int], count: int, out: Path, step: int) -> None:
    """Writes and names one picture of the branches per image; a row per pass."""
    for each in steps(training, wanted, count, step):
        for row in range(len(each.numbers)):
            rows = [branch_panels(training.model, one, row) for one in each.passes]
            kind = 'unlabelled image' if each.passes else 'labelled sample'
            rows = rows or [labeled_panels(training.model, each, row)]
            _save(training, each, row, rows, kind, out / 'branches')


def taught(training: Training, wanted: Sequence[int], count: int, out: Path, step: int) -> None:
    """Writes and names one picture of pseudo labels per image.

    Raises:
        UserError: nothing is unlabelled.
    """
    if training.source is None:
        raise UserError('batches of this config have no unlabelled images: nothing is taught')
    for each in steps(training, wanted, count, step):
        found = targets(training.model, each)
        for row in range(len(each.numbers)):
            rows = taught_panels(training.model, each, found, row)
            _save(training, each, row, rows, 'unlabelled image', out / 'pseudo')


def _save(training: Training, step: Step, row: int, panels: list, kind: str, stem: Path) -> None:
    """Writes and names one picture."""
    iteration, number = training.model.cur_iter, step.numbers[row]
    path = stem.with_name(f'{stem.name}_{iteration:06d}_{number:06d}.png')
    title = f'{kind} {number}, {step.files[row]}, iteration {iteration}'
    save_segs(path, panels, training.palette, title)
    print(path)
