"""How much of the old teacher an update keeps, as functions of the number of updates."""

from mmdistill.registry import TASK_UTILS


def _fraction(name: str, value: float) -> float:
    """Checks that a keep fraction lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f'{name} must lie in [0, 1], got {value}')
    return float(value)


@TASK_UTILS.register_module()
class ConstantMomentum:
    """Always the same fraction.

    Args:
        keep: fraction of the old teacher that is kept, in [0, 1].
    """

    def __init__(self, keep: float = 0.999) -> None:
        self.keep = _fraction('keep', keep)

    def __call__(self, step: int) -> float:
        """Fraction kept by update number ``step`` (the first is 0)."""
        return self.keep


@TASK_UTILS.register_module()
class LinearRampMomentum:
    """A linear ramp, then constant (HSSDA's official code: 0.5 to 0.9996 in 2000 updates).

    Args:
        keep_init: fraction kept by the first update.
        keep_final: fraction kept from the end of the ramp on.
        ramp_iters: length of the ramp in updates.
        ramp_fraction: length as a fraction of ``max_iters`` instead.
        max_iters: planned number of updates, needed with ``ramp_fraction``.

    Raises:
        ValueError: fractions outside [0, 1], or ``ramp_fraction`` without ``max_iters``.
    """

    def __init__(
        self,
        keep_init: float = 0.5,
        keep_final: float = 0.9996,
        ramp_iters: int = 2000,
        ramp_fraction: float | None = None,
        max_iters: int | None = None,
    ) -> None:
        self.keep_init = _fraction('keep_init', keep_init)
        self.keep_final = _fraction('keep_final', keep_final)
        if ramp_fraction is not None:
            if max_iters is None:
                raise ValueError('ramp_fraction needs max_iters, the planned number of updates')
            ramp_iters = round(_fraction('ramp_fraction', ramp_fraction) * max_iters)
        self.ramp_iters = max(int(ramp_iters), 0)

    def __call__(self, step: int) -> float:
        """Fraction kept by update number ``step`` (the first is 0)."""
        if step >= self.ramp_iters:
            return self.keep_final
        return self.keep_init + (self.keep_final - self.keep_init) / self.ramp_iters * step


@TASK_UTILS.register_module()
class InverseMomentum:
    """``min(1 - 1 / (step + 1), keep_final)``: the running mean of the first students.

    Args:
        keep_final: upper bound (mean teacher, arXiv:1703.01780: 0.999).
    """

    def __init__(self, keep_final: float = 0.999) -> None:
        self.keep_final = _fraction('keep_final', keep_final)

    def __call__(self, step: int) -> float:
        """Fraction kept by update number ``step`` (the first is 0)."""
        return min(1 - 1 / (step + 1), self.keep_final)
