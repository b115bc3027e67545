"""From colours to a picture: the source's light, the target's camera."""

from __future__ import annotations

import cv2
import numpy as np

_Rng = np.random.Generator


def light(rng: _Rng, image: np.ndarray) -> np.ndarray:
    """Gives a clean picture the brightness and the tint of a time of day.

    Args:
        rng: source of randomness.
        image: BGR uint8 (H, W, 3).

    Returns:
        BGR uint8 (H, W, 3).
    """
    gain = rng.uniform(0.72, 1.06) * (1 + rng.uniform(-0.07, 0.07, 3))
    return cv2.transform(image, np.diag(gain))


def expose(rng: _Rng, image: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Takes a picture of colours with a real camera.

    In this order: blur of lens and motion, exposure, colour cast, contrast, vignetting,
    noise of the sensor, and what JPEG makes of it.

    Args:
        rng: source of randomness.
        image: BGR uint8 (H, W, 3).
        strength: factor on how far exposure, cast, contrast, vignetting, noise and blur go.

    Returns:
        BGR uint8 (H, W, 3).
    """
    height, width = image.shape[:2]
    out = cv2.GaussianBlur(image, (0, 0), 0.3 + strength * float(rng.uniform(0, 0.6)))
    out = out.astype(np.float32)
    gain = 2.0 ** (strength * rng.normal(-0.05, 0.2))
    cast = 1 + strength * rng.normal(0, 0.035) * np.array([1.0, 0.1, -1.0])
    contrast = 1 - strength * rng.uniform(-0.08, 0.22)
    base = 118 + strength * rng.uniform(-8, 12)
    out = (out - 118) * np.float32(contrast) + np.float32(base)
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    fall = strength * np.float32(rng.uniform(0, 0.22))
    out *= ((1 - fall * (x**2 + y**2) / 2)[..., None]) * (gain * cast).astype(np.float32)
    level = np.float32(strength * rng.uniform(1.5, 6.5))
    out += rng.standard_normal(out.shape, np.float32) * level
    taken = np.clip(out, 0, 255).astype(np.uint8)
    quality = int(rng.integers(45, 92))
    done, data = cv2.imencode('.jpg', taken, (cv2.IMWRITE_JPEG_QUALITY, quality))
    if not done:
        raise OSError('OpenCV cannot write JPEG files')
    return cv2.imdecode(data, cv2.IMREAD_COLOR)
