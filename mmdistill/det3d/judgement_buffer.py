"""What the teacher said in the last training steps, kept for thresholds without extra passes.

The official code reads the whole training set twice in every mining round (hssda 6). The teacher
judges scenes in every training step anyway: a ring of its newest judgements, one a frame, gives
the same records. They are older than those of a round, by at most one pass over the data.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.judgement import Judgement


class JudgementBuffer(nn.Module):
    """A ring of judgements, one scene a slot; buffers, so that a checkpoint has them.

    A scene that is seen again takes a new slot. On several ranks each has its own, which the
    checkpoint keeps per rank. Writing waits for nothing on the device.

    Args:
        capacity: scenes that are kept, at least those of one pass over the data of a rank.
        boxes: of a scene and view that are kept, those with the best scores.
        scores: number of scores.
        dims: of a box.

    Raises:
        UserError: nothing could be kept.
    """

    def __init__(self, capacity: int, boxes: int, scores: int, dims: int = 7) -> None:
        super().__init__()
        if min(capacity, boxes) < 1:
            raise UserError(f'a buffer of {capacity} scenes with {boxes} boxes keeps nothing')
        self.capacity, self.boxes = capacity, boxes
        shapes = dict(weak=dims, other=dims, scores=scores)
        for name, width in shapes.items():
            self.register_buffer(name, torch.zeros(capacity, boxes, width))
        for name in ('trusted', 'trusted_other', 'points'):
            self.register_buffer(name, torch.zeros(capacity, boxes))
        for name in ('labels', 'labels_other'):
            self.register_buffer(name, torch.full((capacity, boxes), -1))
        self.register_buffer('frames', torch.full((capacity,), -1))
        self.register_buffer('labeled', torch.zeros(capacity, dtype=torch.bool))
        self.register_buffer('written', torch.zeros((), dtype=torch.long))

    def add(self, found: Judgement, frames: list[int], labeled: list[bool]) -> None:
        """Keeps the judgement of some scenes.

        Args:
            found: of B scenes.
            frames: (B,) their ids.
            labeled: (B,) whether they have labels.

        Raises:
            UserError: more scenes than the buffer holds.
        """
        if len(frames) > self.capacity:
            raise UserError(
                f'a batch of {len(frames)} scenes does not fit into mining.scenes={self.capacity}: '
                'raise it to the scenes of one pass over the data'
            )
        device = self.weak.device
        slots = (self.written + torch.arange(len(frames), device=device)) % self.capacity
        weak, other = (self._best(each.weights) for each in (found.weak, found.other))
        parts = dict(
            weak=found.weak.boxes,
            other=found.other.boxes,
            scores=found.scores,
            trusted=found.trusted,
            trusted_other=found.trusted_other,
            points=found.points,
            labels=found.weak.labels,
            labels_other=found.other.labels,
        )
        for name, value in parts.items():
            kept = getattr(self, name)
            fill = -1 if name.startswith('labels') else 0
            row = kept.new_full((len(frames), *kept.shape[1:]), fill)
            chosen = other if name.endswith('other') else weak
            if chosen is not None:
                value = value[torch.arange(len(value), device=device)[:, None], chosen]
            row[:, : value.shape[1]] = value.to(kept)
            kept[slots] = row
        self.frames[slots] = torch.tensor(frames, device=device)
        self.labeled[slots] = torch.tensor(labeled, device=device)
        self.written += len(frames)

    def _best(self, scores: Tensor) -> Tensor | None:
        """(B, boxes) numbers of the best of (B, N) boxes; None where all of them fit."""
        return scores.topk(self.boxes).indices if scores.shape[1] > self.boxes else None

    def clear(self) -> None:
        """Forgets everything."""
        self.written.zero_()
        self.frames.fill_(-1)

    def __len__(self) -> int:
        """Slots that are filled."""
        return min(int(self.written), self.capacity)

    def newest(self, views: int = 1) -> tuple[Judgement, list[int], list[bool]]:
        """The newest judgements of every frame, on the CPU.

        Args:
            views: how many of a labelled frame, as far as there are so many; its labels never
                change, so that older ones are as good. Of other frames it is one.

        Returns:
            Judgement, frames in ascending order with the newest of a frame first, and whether
            they have labels.
        """
        written, filled = int(self.written), len(self)
        frames, labeled = self.frames.tolist(), self.labeled.tolist()
        slots: dict[int, list[int]] = {}
        for age in range(1, filled + 1):
            slot = (written - age) % self.capacity
            found = slots.setdefault(frames[slot], [])
            if len(found) < (views if labeled[slot] else 1):
                found.append(slot)
        chosen = [slot for frame in sorted(slots) for slot in slots[frame]]
        chosen = torch.tensor(chosen, dtype=torch.long)
        kept = {name: each.cpu()[chosen] for name, each in self.named_buffers() if each.dim()}
        weak = _boxes(kept['weak'], kept['labels'])
        other = _boxes(kept['other'], kept['labels_other'])
        found = Judgement(
            weak=weak,
            other=other,
            scores=kept['scores'],
            trusted=kept['trusted'],
            trusted_other=kept['trusted_other'],
            points=kept['points'],
        )
        return found, kept['frames'].tolist(), kept['labeled'].tolist()


def _boxes(boxes: Tensor, labels: Tensor) -> BoxBatch:
    """Boxes whose padding has no label."""
    valid = labels >= 0
    return BoxBatch(boxes=boxes, labels=labels, weights=valid.to(boxes), valid=valid)
