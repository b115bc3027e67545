"""Draws bodies and poses: what people do with their legs, trunk and arms."""

from __future__ import annotations

import numpy as np

from .skeleton import Body, Pose

_Rng = np.random.Generator

LEGS = {'stand': 0.3, 'walk': 0.27, 'sit': 0.17, 'crouch': 0.08, 'bend': 0.1, 'step': 0.08}
"""What the legs do, and how often."""
ARMS = {
    'hang': 0.22, 'swing': 0.16, 'hips': 0.1, 'crossed': 0.07, 'up': 0.16, 'out': 0.09, 'any': 0.2,
}  # fmt: skip
"""What each pair of arms does, and how often."""


def draw_body(rng: _Rng) -> Body:
    """A random body, one in eight a child."""
    child = rng.random() < 0.125
    height = rng.uniform(1.0, 1.4) if child else float(np.clip(rng.normal(1.71, 0.1), 1.45, 2.0))
    return Body(
        height=height,
        build=float(np.clip(rng.normal(1.0, 0.14), 0.75, 1.45)),
        head=rng.uniform(1.2, 1.4) if child else rng.uniform(0.95, 1.12),
        legs=rng.uniform(0.88, 0.95) if child else rng.uniform(0.95, 1.06),
        shoulders=rng.uniform(0.86, 0.95) if child else rng.uniform(0.9, 1.12),
    )


UPRIGHT = ('stand', 'walk')
"""What the legs of upright people do."""
PLAIN_ARMS = ('hang', 'swing', 'up', 'out')
"""What their arms do."""


def _among(weights: dict[str, float], chosen: tuple[str, ...] | None) -> tuple[list, list]:
    """Names and shares of some kinds, all of them by default; the shares sum up to 1."""
    names = [name for name in weights if chosen is None or name in chosen]
    total = sum(weights[name] for name in names) if chosen else 1.0
    return names, [weights[name] / total for name in names]


def draw_yaw(rng: _Rng, upright: bool = False) -> float:
    """A direction of the body: front, back, side or any, radians; upright people face us."""
    if upright:
        return float(np.radians(rng.normal(0, 25)))
    kind = rng.choice(4, p=(0.33, 0.17, 0.22, 0.28))
    if kind == 3:
        return float(rng.uniform(-np.pi, np.pi))
    middle = (0.0, 180.0, 90.0 * rng.choice((-1, 1)))[kind]
    return float(np.radians(middle + rng.normal(0, 16)))


def _legs(rng: _Rng, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hips (2, 3), knees (2,) and spine (3,) in degrees."""
    hips = np.column_stack([rng.normal(0, 4, 2), rng.uniform(0, 9, 2), rng.uniform(0, 20, 2)])
    knees = np.abs(rng.normal(0, 6, 2))
    spine = rng.normal((3, 0, 0), (5, 4, 8))
    if kind == 'walk':
        swing, front = rng.uniform(12, 34), rng.integers(2)
        hips[front, 0], hips[1 - front, 0] = swing, -0.7 * swing
        knees[:] = rng.uniform(5, 25), rng.uniform(5, 25)
        knees[1 - front] += rng.uniform(0, 45)
        spine[0] = rng.uniform(0, 14)
    elif kind == 'sit':
        hips[:, 0] = rng.uniform(72, 98) + rng.normal(0, 5, 2)
        hips[:, 1] = rng.uniform(2, 22, 2)
        knees[:] = hips[:, 0] + rng.uniform(-30, 12, 2)
        spine[0] = rng.uniform(-12, 30)
    elif kind == 'crouch':
        hips[:, 0] = rng.uniform(50, 110) + rng.normal(0, 8, 2)
        hips[:, 1] = rng.uniform(5, 30, 2)
        knees[:] = np.clip(hips[:, 0] + rng.uniform(5, 40), 0, 140) + rng.normal(0, 5, 2)
        spine[0] = rng.uniform(10, 50)
    elif kind == 'bend':
        spine[0] = rng.uniform(30, 85)
        spine[1:] = rng.normal(0, (10, 15))
        hips[:, 0] += rng.uniform(0, 15)
        knees += rng.uniform(0, 25)
    elif kind == 'step':
        one = rng.integers(2)
        hips[one, 0] = rng.uniform(35, 100)
        hips[:, 1] += rng.uniform(0, 25, 2)
        knees[one] = rng.uniform(10, 110)
        spine[:2] = rng.normal((5, 0), (12, 12))
    elif rng.random() < 0.25:  # legs apart, weight on one of them
        hips[:, 1] += rng.uniform(5, 22)
        spine[1] = rng.normal(0, 12)
    return hips, knees, spine


def _arms(rng: _Rng, kind: str, stride: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shoulders (2, 3) and elbows (2,) in degrees; ``stride`` is the flexion of the hips (2,)."""
    shoulders = np.column_stack(
        [rng.normal(0, 12, 2), rng.uniform(4, 16, 2), rng.normal(-10, 15, 2)]
    )
    elbows = rng.uniform(4, 45, 2)
    if kind == 'swing':
        shoulders[:, 0] = -rng.uniform(0.6, 1.3) * np.clip(stride, -40, 40) + rng.normal(0, 6, 2)
        elbows = rng.uniform(10, 95) + rng.normal(0, 8, 2)
    elif kind == 'hips':
        shoulders[:] = np.column_stack(
            [rng.uniform(-25, 0, 2), rng.uniform(35, 55, 2), rng.uniform(-85, -60, 2)]
        )
        elbows = rng.uniform(75, 105, 2)
    elif kind == 'crossed':
        shoulders[:] = np.column_stack(
            [rng.uniform(15, 35, 2), rng.uniform(5, 18, 2), rng.uniform(-75, -50, 2)]
        )
        elbows = rng.uniform(85, 120, 2)
    elif kind == 'up':
        shoulders[:] = np.column_stack(
            [rng.uniform(-10, 40, 2), rng.uniform(100, 172, 2), rng.uniform(-20, 70, 2)]
        )
        elbows = rng.uniform(0, 90, 2)
    elif kind == 'out':
        shoulders[:] = np.column_stack(
            [rng.uniform(-10, 80, 2), rng.uniform(50, 105, 2), rng.uniform(-30, 90, 2)]
        )
        elbows = rng.uniform(0, 110, 2)
    elif kind == 'any':
        shoulders[:] = np.column_stack(
            [rng.uniform(-40, 150, 2), rng.uniform(0, 60, 2), rng.uniform(-70, 40, 2)]
        )
        elbows = rng.uniform(0, 130, 2)
    return shoulders, elbows


def draw_pose(rng: _Rng, pitch: float = 0.0, upright: bool = False) -> tuple[Pose, str]:
    """A random pose and what its legs do, a key of :data:`LEGS`.

    Args:
        rng: source of randomness.
        pitch: of the camera, see :class:`Pose`.
        upright: they stand or walk and face the camera.
    """
    names, shares = _among(LEGS, UPRIGHT if upright else None)
    kind = str(rng.choice(names, p=shares))
    hips, knees, spine = _legs(rng, kind)
    names, shares = _among(ARMS, PLAIN_ARMS if upright else None)
    shoulders, elbows = _arms(rng, str(rng.choice(names, p=shares)), hips[:, 0])
    if rng.random() < 0.35:  # each arm does something else
        other = _arms(rng, str(rng.choice(names, p=shares)), hips[:, 0])
        one = rng.integers(2)
        shoulders[one], elbows[one] = other[0][one], other[1][one]
    neck = np.clip(rng.normal((0, 4, 0), (26, 11, 8)), (-65, -25, -22), (65, 35, 22))
    pose = Pose(
        yaw=draw_yaw(rng, upright),
        roll=float(np.radians(rng.normal(0, 3.5))),
        pitch=pitch,
        spine=np.radians(spine),
        neck=np.radians(neck),
        hips=np.radians(hips),
        knees=np.radians(knees),
        shoulders=np.radians(shoulders),
        elbows=np.radians(elbows),
    )
    return pose, kind
