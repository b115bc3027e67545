"""Versioned store of mined pseudo labels: buffers in the checkpoint, a side-car in the work dir.

The official code rewrites the annotation file inside the dataset; here the data folder is
never touched, a crashed run leaves nothing behind, and a resumed run finds the boxes of the
version it was saved with (hssda: B8, B11).
"""

import json
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FIELDS = ('frames', 'boxes', 'labels', 'scores', 'rounds')


class PseudoLabelStore(nn.Module):
    """Mined boxes by frame, in canonical (raw scene) coordinates.

    Buffers, sorted by frame, all of length N: ``frames`` (frame id), ``boxes`` (N, box_dim),
    ``labels``, ``scores``, ``rounds`` (mining round that found the box); ``version`` counts
    the changes.

    Args:
        box_dim: numbers of a box, 7 or 9 (with the velocity).
    """

    def __init__(self, box_dim: int = 7) -> None:
        super().__init__()
        self.register_buffer('frames', torch.zeros(0, dtype=torch.long))
        self.register_buffer('boxes', torch.zeros(0, box_dim))
        self.register_buffer('labels', torch.zeros(0, dtype=torch.long))
        self.register_buffer('scores', torch.zeros(0))
        self.register_buffer('rounds', torch.zeros(0, dtype=torch.long))
        self.register_buffer('version', torch.zeros((), dtype=torch.long))
        self._slices: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        """Buffers take the length found in the checkpoint."""
        for name in FIELDS:
            value = state_dict.get(prefix + name)
            if value is not None:
                setattr(self, name, torch.empty_like(value, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._index()

    def _index(self) -> None:
        """Rebuilds the table frame id -> slice."""
        frames, counts = torch.unique_consecutive(self.frames.cpu(), return_counts=True)
        ends = counts.cumsum(0)
        spans = zip(frames.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
        self._slices = {frame: (start, end) for frame, start, end in spans}

    def frame(self, frame: int) -> tuple[Tensor, Tensor, Tensor]:
        """(n, box_dim) boxes, (n,) labels and (n,) scores of a frame, possibly none."""
        start, end = self._slices.get(int(frame), (0, 0))
        return self.boxes[start:end], self.labels[start:end], self.scores[start:end]

    def frame_ids(self) -> list[int]:
        """Frames that hold boxes, ascending."""
        return list(self._slices)

    def contents(self) -> dict[str, Tensor]:
        """All buffers, for sending to other ranks or comparing."""
        return {name: getattr(self, name).cpu() for name in (*FIELDS, 'version')}

    def replace(self, contents: dict[str, Tensor]) -> None:
        """Takes the contents of another store."""
        for name, value in contents.items():
            setattr(self, name, value.to(getattr(self, name).device))
        self._index()

    def update(
        self, found: dict[str, Tensor], round_index: int, evict: Tensor | None = None
    ) -> None:
        """Adds boxes and forgets some; a box equal to a stored one is stored once.

        Args:
            found: ``frames`` (M,), ``boxes`` (M, box_dim), ``labels`` (M,), ``scores`` (M,).
            round_index: number of the mining round.
            evict: (N,) bool, stored boxes to forget.
        """
        keep = torch.ones(len(self), dtype=torch.bool) if evict is None else ~evict.cpu()
        old = {name: getattr(self, name).cpu()[keep] for name in FIELDS}
        new = {name: found[name].cpu() for name in FIELDS[:-1]}
        new['rounds'] = torch.full_like(new['frames'], round_index)
        joined = {name: torch.cat([old[name], new[name].to(old[name])]) for name in FIELDS}
        key = torch.cat([joined['frames'].double()[:, None], joined['boxes'].double()], 1)
        _, group = torch.unique(key, dim=0, return_inverse=True)
        first = torch.full((int(group.max()) + 1 if len(group) else 0,), len(group))
        first.scatter_reduce_(0, group, torch.arange(len(group)), 'amin')
        order = first.sort().values
        order = order[joined['frames'][order].argsort(stable=True)]
        for name in FIELDS:
            setattr(self, name, joined[name][order].to(self.version.device))
        self.version += 1
        self._index()

    def save(self, work_dir: str | Path, class_names: list[str]) -> Path:
        """Writes ``pseudo_labels/v<version>.npz`` and a summary beside it, atomically."""
        folder = Path(work_dir) / 'pseudo_labels'
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: value.numpy() for name, value in self.contents().items()}
        path = folder / f'v{int(self.version):03d}.npz'
        temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
        with open(temporary, 'wb') as file:
            np.savez_compressed(file, **arrays)
        os.replace(temporary, path)
        counts = np.bincount(arrays['labels'], minlength=len(class_names))
        summary = {
            'version': int(self.version),
            'frames': len(self._slices),
            'boxes': dict(zip(class_names, counts.tolist(), strict=True)),
        }
        note = path.with_suffix('.json')
        temporary = note.with_name(f'.{note.name}.{os.getpid()}.tmp')
        temporary.write_text(json.dumps(summary, indent=1))
        os.replace(temporary, note)
        return path
