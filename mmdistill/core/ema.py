"""Exponential moving average of a module, parameters and buffers (arXiv:1703.01780).

``teacher <- keep * teacher + (1 - keep) * student``, computed as
``teacher + (1 - keep) * (student - teacher)`` so that the average of a constant is exactly
that constant, with ``foreach`` operations. A student that is not finite never reaches the
teacher; on a GPU that is decided on the device, without waiting for it.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

BUFFER_POLICIES = ('copy', 'ema', 'skip')
Pairs = tuple[list[Tensor], list[Tensor]]


def _no_pairs() -> Pairs:
    return [], []


@dataclass
class PairedTensors:
    """Tensors of teacher and student that belong together.

    Attributes:
        trained: floating-point parameters that the student trains; averaged.
        steady: other floating-point tensors to be averaged: frozen parameters, and buffers
            with the policy ``'ema'``. They may hold infinite constants such as masks.
        copied: tensors to be copied.
    """

    trained: Pairs = field(default_factory=_no_pairs)
    steady: Pairs = field(default_factory=_no_pairs)
    copied: Pairs = field(default_factory=_no_pairs)


def paired_tensors(teacher: nn.Module, student: nn.Module, buffers: str = 'copy') -> PairedTensors:
    """Sorts the tensors of two modules by what an update does with them.

    Args:
        teacher: the average.
        student: the module that is averaged; it may have further tensors of its own.
        buffers: ``'copy'``, ``'ema'`` (integers are copied) or ``'skip'``.

    Raises:
        ValueError: an unknown buffer policy, or modules of different structure.
    """
    if buffers not in BUFFER_POLICIES:
        raise ValueError(f'buffers must be one of {BUFFER_POLICIES}, got {buffers!r}')
    pairs = PairedTensors()
    kinds = [(teacher.named_parameters(), dict(student.named_parameters()), 'ema')]
    if buffers != 'skip':
        kinds.append((teacher.named_buffers(), dict(student.named_buffers()), buffers))
    for named, other, policy in kinds:
        for name, old in named:
            new = other.get(name)
            if new is None or new.shape != old.shape:
                found = 'nothing' if new is None else tuple(new.shape)
                raise ValueError(
                    f'teacher and student differ at {name!r} ({tuple(old.shape)} and {found}): '
                    'build both from the same config'
                )
            averaged = policy == 'ema' and (old.is_floating_point() or old.is_complex())
            trained = averaged and new.requires_grad
            into = pairs.trained if trained else pairs.steady if averaged else pairs.copied
            into[0].append(old)
            into[1].append(new if new.dtype == old.dtype else new.to(old.dtype))
    return pairs


def finite_numbers(tensors: list[Tensor]) -> Tensor:
    """Scalar bool tensor on the tensors' device: no NaN and no infinity in any of them.

    Args:
        tensors: floating-point or complex, at least one, none of them empty.
    """
    if tensors[0].device.type == 'cpu':  # the largest number takes 8 times as long as the squares
        norms = torch._foreach_norm(tensors, 2)
        if bool(torch.stack([norm.double() for norm in norms]).isfinite().all()):
            return torch.tensor(True)
    norms = torch._foreach_norm(tensors, float('inf'))
    return torch.stack([norm.double() for norm in norms]).isfinite().all()


@torch.no_grad()
def all_finite(pairs: PairedTensors) -> Tensor:
    """Scalar bool tensor on the tensors' device: the student holds no NaN and no new infinity.

    Constants that teacher and student share, such as masks of minus infinity, are fine.
    """
    trained = [each for each in pairs.trained[1] if each.numel()]
    others: dict[torch.dtype, Pairs] = {}
    for part in (pairs.steady, pairs.copied):
        for old, new in zip(*part, strict=True):
            if new.is_floating_point() or new.is_complex():
                into = others.setdefault(new.dtype, _no_pairs())
                into[0].append(old.reshape(-1))
                into[1].append(new.reshape(-1))
    flags = []
    if trained:
        flags.append(finite_numbers(trained))
    for olds, news in others.values():
        old, new = torch.cat(olds), torch.cat(news)
        flags.append((new.isfinite() | (new == old)).all())
    return torch.stack(flags).all() if flags else torch.tensor(True)


def _averaged(pairs: PairedTensors, keep: float) -> list[Tensor]:
    """New values of the steady tensors; equal ones, infinite or not, stay what they are."""
    mixed = []
    for old, new in zip(*pairs.steady, strict=True):
        mixed.append(torch.where(new == old, old, torch.lerp(old, new, 1 - keep)))
    return mixed


@torch.no_grad()
def apply_ema(
    pairs: PairedTensors, keep: float, finite: Tensor, on_device: bool | None = None
) -> None:
    """Updates the teacher's tensors in place if ``finite`` is set, else leaves every bit.

    Args:
        pairs: from :func:`paired_tensors`.
        keep: fraction of the old teacher that is kept, in [0, 1].
        finite: scalar bool tensor.
        on_device: choose on the device, which takes more memory, instead of asking for the
            value of ``finite``; default: not on the CPU.
    """
    olds, news = pairs.trained
    steady, copied = _averaged(pairs, keep), pairs.copied
    if not (finite.device.type != 'cpu' if on_device is None else on_device):
        if not finite:
            return
        if olds:
            torch._foreach_lerp_(olds, news, 1 - keep)
        for old, new in zip(pairs.steady[0] + copied[0], steady + copied[1], strict=True):
            old.copy_(new)
        return
    mixed = list(torch._foreach_lerp(olds, news, 1 - keep)) if olds else []
    targets, values = olds + pairs.steady[0] + copied[0], mixed + steady + copied[1]
    for old, new in zip(targets, values, strict=True):
        torch.where(finite, new, old, out=old)


@torch.no_grad()
def ema_update(
    teacher: nn.Module, student: nn.Module, keep: float, buffers: str = 'copy'
) -> Tensor:
    """Moves the teacher towards the student.

    Args:
        teacher: changed in place.
        student: unchanged.
        keep: fraction of the old teacher that is kept, in [0, 1].
        buffers: ``'copy'``, ``'ema'`` (floating-point buffers averaged, others copied) or
            ``'skip'`` (buffers untouched).

    Returns:
        Scalar bool tensor: True when the student was finite. When it was not, the teacher is
        bitwise what it was.

    Raises:
        ValueError: an unknown buffer policy, or modules of different structure.
    """
    pairs = paired_tensors(teacher, student, buffers)
    finite = all_finite(pairs)
    apply_ema(pairs, keep, finite)
    return finite
