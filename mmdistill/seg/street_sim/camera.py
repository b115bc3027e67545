"""A camera above a road that may bend.

A point of the world is (s, z, y): metres to the right of the road's middle, metres
ahead of the camera, metres above the ground. The picture's axes are u to the right and
v down, in pixels of the picture; the middle of its first pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAR = 0.6
"""Nothing is nearer than this, metres: closer points move there."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along the road; its pitch is where the horizon lies.

    Attributes:
        width: of the picture, pixels.
        height: of the picture, pixels.
        focal: focal length, pixels.
        horizon: v of the horizon, pixels.
        tall: height above the ground, metres.
        offset: s of the camera, metres.
        curve: curvature of the road, 1/m, positive to the right.
    """

    width: int
    height: int
    focal: float
    horizon: float
    tall: float
    offset: float = 0.0
    curve: float = 0.0

    def flat(self, points: np.ndarray) -> np.ndarray:
        """Plan positions (..., 2) in the camera's own straight axes of points (..., 2 or 3).

        Returns:
            metres to the right of the camera and ahead of it, (..., 2).
        """
        flat = np.array(points[..., :2], np.float64)
        flat[..., 0] += self.curve / 2 * flat[..., 1] ** 2 - self.offset
        return flat

    def sees(self, points: np.ndarray, margin: float) -> bool:
        """Whether plan positions (N, 2), and ``margin`` metres around, reach into the view."""
        x, z = self.flat(points).T
        half = self.width / 2 / self.focal * np.maximum(z, NEAR) + margin
        return bool((x < half).any() and (x > -half).any())

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of points (..., 3)."""
        pixels = self.flat(points)
        scale = self.focal / np.maximum(pixels[..., 1], NEAR)
        pixels[..., 0] = (self.width - 1) / 2 + scale * pixels[..., 0]
        pixels[..., 1] = self.horizon + scale * (self.tall - points[..., 2])
        return pixels

    def ground(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the camera sees of the ground.

        Args:
            u: columns, pixels (W,).
            v: rows below the horizon, pixels (H,).

        Returns:
            s (H, W) and z (H, 1) in metres, float32.
        """
        z = (self.focal * self.tall / (v - self.horizon))[:, None]
        x = (u - (self.width - 1) / 2)[None] * z / self.focal
        s = x + self.offset - self.curve / 2 * z**2
        return s.astype(np.float32), z.astype(np.float32)
