"""Exponential moving average of a module, parameters and buffers (arXiv:1703.01780).

``teacher <- keep * teacher + (1 - keep) * student`` with fused ``foreach`` operations and no
host synchronisation: whether the student is finite is decided on the device.
"""

import torch
from torch import Tensor, nn

BUFFER_POLICIES = ('copy', 'ema', 'skip')


def paired_tensors(
    teacher: nn.Module, student: nn.Module, buffers: str
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Tensors to be averaged (teacher's, student's) and to be copied (teacher's, student's).

    Raises:
        ValueError: an unknown buffer policy, or modules of different structure.
    """
    if buffers not in BUFFER_POLICIES:
        raise ValueError(f'buffers must be one of {BUFFER_POLICIES}, got {buffers!r}')
    mean: tuple[list[Tensor], list[Tensor]] = ([], [])
    copy: tuple[list[Tensor], list[Tensor]] = ([], [])
    kinds = [(teacher.named_parameters(), dict(student.named_parameters()), 'ema')]
    if buffers != 'skip':
        kinds.append((teacher.named_buffers(), dict(student.named_buffers()), buffers))
    for named, other, policy in kinds:
        for name, old in named:
            new = other.get(name)
            if new is None or new.shape != old.shape:
                raise ValueError(
                    f'teacher and student differ at {name!r}: build both from the same config'
                )
            into = mean if policy == 'ema' and old.is_floating_point() else copy
            into[0].append(old.data)
            into[1].append(new.data)
    return *mean, *copy


def all_finite(tensors: list[Tensor]) -> Tensor:
    """Scalar bool tensor on the device of the tensors: every number is finite."""
    floats = [each for each in tensors if each.is_floating_point() and each.numel()]
    if not floats:
        return torch.tensor(True)
    norms = torch._foreach_norm(floats, float('inf'))
    return torch.stack([norm.float() for norm in norms]).isfinite().all()


@torch.no_grad()
def ema_update(
    teacher: nn.Module, student: nn.Module, keep: float, buffers: str = 'copy'
) -> Tensor:
    """Moves the teacher towards the student.

    Args:
        teacher: changed in place.
        student: unchanged.
        keep: fraction of the old teacher that is kept.
        buffers: ``'copy'``, ``'ema'`` (floating-point buffers averaged, others copied) or
            ``'skip'``.

    Returns:
        Scalar bool tensor: True when the student was finite. When it was not, the teacher is
        bitwise what it was.
    """
    old, new, old_copied, new_copied = paired_tensors(teacher, student, buffers)
    finite = all_finite(new + new_copied)
    mixed = torch._foreach_mul(old, keep)
    torch._foreach_add_(mixed, new, alpha=1 - keep)
    for target, value in zip(old + old_copied, mixed + new_copied, strict=True):
        torch.where(finite.to(target.device), value, target, out=target)
    return finite
