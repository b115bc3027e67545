"""What the tests of the drawn streets share: plain cameras, scenes and looks."""

import numpy as np

from mmdistill.seg.street_sim.brush import Brush
from mmdistill.seg.street_sim.camera import Camera
from mmdistill.seg.street_sim.canvas import Canvas
from mmdistill.seg.street_sim.ground import Ground
from mmdistill.seg.street_sim.layout import Scene
from mmdistill.seg.street_sim.looks import Look
from mmdistill.seg.street_sim.order import painters_order
from mmdistill.seg.street_sim.street import paint

NOTHING = 200
"""A label that nothing has."""


def camera(**changes) -> Camera:
    """A camera 1.5 m above the middle of a straight road."""
    plain = dict(width=120, height=80, focal=100.0, horizon=38.0, tall=1.5)
    return Camera(**{**plain, **changes})


def brush(domain: str = 'source', seed: int = 0, **changes) -> Brush:
    """A brush on an empty canvas with the label NOTHING everywhere."""
    view = camera(**changes)
    canvas = Canvas(view.width, view.height)
    canvas.label[:] = NOTHING
    return Brush(view, canvas, Look(domain, np.random.default_rng(seed)))


def scene(*things, view: Camera | None = None) -> Scene:
    """A scene of these things on a wide road."""
    view = view or camera()
    order = painters_order(np.stack([view.flat(thing.footprint) for thing in things]))
    return Scene(view, Ground(half=300.0), tuple(things[i] for i in order))


def labels(some: Scene, look: str = 'source', seed: int = 0) -> np.ndarray:
    """Labels of a scene under a look."""
    return paint(some, np.random.default_rng(seed), look).label
