"""A synthetic street seen by a ray-cast spinning LiDAR, in numpy alone.

:func:`simulate` makes frame ``index`` of the data set ``seed``; it depends on
nothing else, so that a data set can grow without changing its first frames.
"""

from .frame import Frame, simulate
from .scene import Scene, SceneSettings, compose
from .sensor import Lidar

__all__ = ['Frame', 'Lidar', 'Scene', 'SceneSettings', 'compose', 'simulate']
