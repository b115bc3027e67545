"""Street scenes of two domains with Cityscapes' labels, in numpy and OpenCV.

:func:`simulate` makes image ``index`` of a domain of the data set ``seed``; it depends
on nothing else, so that a data set can grow without changing its first images.
"""

from .classes import CLASSES, VOID
from .layout import Scene, compose
from .street import DOMAINS, Street, StreetSettings, paint, simulate

__all__ = [
    'CLASSES',
    'DOMAINS',
    'VOID',
    'Scene',
    'Street',
    'StreetSettings',
    'compose',
    'paint',
    'simulate',
]
