"""Which signal of the teacher a step uses (Teacher Intervention, arXiv:2302.11812)."""

from __future__ import annotations

import numpy as np

from mmdistill.core.errors import UserError

MODES = ('output', 'context', 'map')
"""What is replaced: TI-O, TI-C and TI-M."""
SCHEDULES = ('gradual', 'inverted', 'stochastic', *MODES, 'none')


def mode_at(schedule: str, step: int, steps: int, seed: int = 0) -> str | None:
    """The mode of one step of the first phase.

    ``gradual`` (TI-G) goes from output (a sixth) over context (a sixth) to map; ``inverted`` from
    map over context to output, a third each; ``stochastic`` draws one mode for the whole network,
    from a generator that only seed and step decide on, so that ranks and resumed runs agree
    (published: the global generator).

    Args:
        schedule: of :data:`SCHEDULES`.
        step: from 0.
        steps: length of the phase.
        seed: of ``stochastic``.

    Returns:
        One of :data:`MODES`, or None for no intervention.

    Raises:
        UserError: another schedule.
    """
    if schedule not in SCHEDULES:
        raise UserError(f'schedule must be one of {SCHEDULES}, got {schedule!r}')
    if schedule == 'none':
        return None
    if schedule in MODES:
        return schedule
    if schedule == 'stochastic':
        return MODES[np.random.default_rng((seed, step)).integers(3)]
    early, late = (6, 3) if schedule == 'gradual' else (3, 1.5)
    order = MODES if schedule == 'gradual' else MODES[::-1]
    if step < steps / early:
        return order[0]
    return order[1] if step < steps / late else order[2]
