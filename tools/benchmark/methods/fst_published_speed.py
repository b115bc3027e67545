"""FST's step in the order and with the means of the published code, to be compared with.

Virtual steps are real ones: the parameters are copied first and copied back after them. Every
pass does everything anew, the distance of features has a backward pass of its own, and teacher
and copies are handled tensor by tensor. Left out is what costs the published code more still:
labels that are mixed on the CPU, values that are read for the log, one group of the optimizer per
tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def average_(teacher: list[Tensor], student: list[Tensor], keep: float) -> None:
    """``teacher <- keep teacher + (1 - keep) student``, tensor by tensor."""
    for mine, theirs in zip(teacher, student, strict=True):
        mine.copy_(keep * mine + (1 - keep) * theirs)


@torch.no_grad()
def copies(params: list[Tensor]) -> list[Tensor]:
    """Copies of parameters, tensor by tensor."""
    return [each.detach().clone() for each in params]


@torch.no_grad()
def put_back_(params: list[Tensor], saved: list[Tensor]) -> None:
    """Values of :func:`copies`, tensor by tensor."""
    for each, value in zip(params, saved, strict=True):
        each.copy_(value)


class PublishedSteps:
    """Training steps of FST-D.

    Args:
        model: lends networks, losses of the heads and the student's view of the images.
        optimizer: of the student.
        depth: virtual steps.
    """

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer, depth: int) -> None:
        self.model, self.optimizer, self.depth = model, optimizer, depth
        self.student = list(model.student.parameters())
        self.teacher = list(model.teacher.parameters())
        self.passes = 0

    def step(self, data: dict) -> None:
        """One step; the first one has no virtual ones."""
        data = self.model.data_preprocessor(data, True)
        batch = self.model.read_batch(data['inputs'], data['data_samples'])
        if self.passes == 0:
            self.average()
            self.learn(batch, 0)
            self.average()
            return
        before = copies(self.student)
        for number in range(1, self.depth + 1):
            self.average()
            self.learn(batch, number)
        self.average()
        put_back_(self.student, before)
        self.learn(batch, 0)

    def average(self) -> None:
        """The teacher follows the student as it is now."""
        keep = min(1 - 1 / (self.passes + 1), self.model.keep)
        average_(self.teacher, self.student, keep)

    def learn(self, batch: Any, number: int) -> None:
        """All losses, each with its backward pass, and a step of the optimizer."""
        from mmdistill.seg.class_mix import mix
        from mmdistill.seg.seg_batch import look

        model, student = self.model, self.model.student
        self.optimizer.zero_grad()
        view = model.student_view(batch, number)
        seen = look(student, batch.labeled)
        far = model.feature_distance is not None
        self.total(seen, batch.labels).backward(retain_graph=far)
        if far:
            with torch.no_grad():
                reference = model.reference(batch.labeled)
            model.feature_distance(seen.features, reference, batch.labels).backward()
        labels, weight = self.label(batch.unlabeled)
        labels = mix(view.mask, batch.labels, labels)
        weight = mix(view.mask, torch.ones_like(weight), weight)
        self.total(look(student, view.images), labels, weight).backward()
        self.optimizer.step()
        self.passes += 1

    def total(self, seen: Any, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Sum of the losses of all heads."""
        from mmdistill.seg.seg_losses import losses_of_heads

        losses = losses_of_heads(self.model.student, seen.logits, labels, weight)
        return sum(value for name, value in losses.items() if 'loss' in name)

    @torch.no_grad()
    def label(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's labels, and the share of confident pixels as weight of every one."""
        options = self.model.rule_options
        prob, labels = self.model.teacher_logits(images).softmax(1).max(1)
        weight = torch.ones_like(prob) * (prob >= options['threshold']).float().mean()
        weight[:, : options['top_rows']] = 0
        weight[:, prob.shape[1] - options['bottom_rows'] :] = 0
        return labels, weight
