"""Articulated people drawn into images, with COCO's 17 joints, in numpy and OpenCV.

:func:`simulate` makes image ``index`` of the data set ``seed``; it depends on
nothing else, so that a data set can grow without changing its first images.
"""

from .people import Person, draw_person
from .picture import Picture, PictureSettings, simulate
from .skeleton import FLIP_INDICES, JOINTS, LINKS, Body, Pose

__all__ = [
    'FLIP_INDICES',
    'JOINTS',
    'LINKS',
    'Body',
    'Person',
    'Picture',
    'PictureSettings',
    'Pose',
    'draw_person',
    'simulate',
]
