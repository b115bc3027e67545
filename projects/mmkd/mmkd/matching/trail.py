"""Where a student has been: one vector of parameters per step, kept until the way back."""

from __future__ import annotations

import tempfile

import torch
from torch import Tensor

from mmdistill.core.errors import UserError

SMALL = 1 << 20
"""Bytes that are kept in memory on the CPU too."""


class Trail:
    """Vectors that are written once and read once, the last one first.

    On a GPU they stay there. On the CPU they lie in a temporary file, so that memory does not grow
    with the number of steps; what fits into a mebibyte stays in memory.

    Args:
        steps: number of vectors.
        like: a vector, ``(P,)``.
    """

    def __init__(self, steps: int, like: Tensor) -> None:
        self.like, self.bytes = like, like.numel() * like.element_size()
        self._file = self._kept = None
        if like.device.type == 'cpu' and steps * self.bytes > SMALL:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (closed with the trail)
        else:
            self._kept = like.new_empty(steps, len(like))

    def __setitem__(self, step: int, vector: Tensor) -> None:
        """Keeps the vector of a step.

        Raises:
            UserError: the disk of temporary files is full.
        """
        if self._file is None:
            self._kept[step] = vector
            return
        content = memoryview(vector.detach().contiguous().numpy()).cast('B')
        try:
            self._file.seek(step * self.bytes)
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            raise UserError(
                f'parameters of a step cannot be kept in {tempfile.gettempdir()}: '
                f'{error.strerror}; TMPDIR names another folder'
            ) from error

    def __getitem__(self, step: int) -> Tensor:
        """The vector of a step."""
        if self._file is None:
            return self._kept[step]
        found = torch.empty_like(self.like)
        content = memoryview(found.numpy()).cast('B')
        self._file.seek(step * self.bytes)
        while content:
            content = content[self._file.readinto(content) :]
        return found
