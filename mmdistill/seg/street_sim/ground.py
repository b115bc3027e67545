"""Road with its markings, pavements and grass, and the sky above."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .camera import Camera
from .canvas import FINE, Canvas
from .classes import ROAD, SIDEWALK, SKY, TERRAIN
from .looks import TILE, Look, noise

_PLAIN, _MARK, _CURB, _SLAB, _JOINT, _GRASS = range(6)
_ROUGH = np.array([0.75, 0.75, 0.75, 0.75, 0.75, 1.6], np.float32)
_LABELS = np.array([ROAD, ROAD, SIDEWALK, SIDEWALK, SIDEWALK, TERRAIN], np.uint8)


@dataclass(frozen=True)
class Ground:
    """What lies where on the ground; pairs are left and right of the road, in metres.

    Attributes:
        half: half the width of the road.
        lanes: s of the lines between lanes; the first one is solid at times.
        solid: whether the first line is.
        verge: width of the grass between road and sidewalk.
        walk: width of the sidewalk.
        green: whether grass follows the sidewalk, else pavement goes on.
        junction: where a crossing road begins and ends ahead; None without.
        zebra: whether pedestrians cross before the junction.
    """

    half: float
    lanes: tuple[float, ...] = (0.0,)
    solid: bool = False
    verge: tuple[float, float] = (0.0, 0.0)
    walk: tuple[float, float] = (3.0, 3.0)
    green: tuple[bool, bool] = (False, False)
    junction: tuple[float, float] | None = None
    zebra: bool = False

    def kinds(self, s: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Kind of the ground at s (H, W), z (H, 1), an index into the labels, uint8 (H, W)."""
        out = np.abs(s) - self.half
        right = (s >= 0).astype(np.uint8)
        verge = np.array(self.verge, np.float32)[right]
        end = verge + np.array(self.walk, np.float32)[right]
        beyond = np.where(self.green, _GRASS, _SLAB).astype(np.uint8)[right]
        joint = (np.mod(s, 1.6) < 0.08) | (np.mod(z, 1.6) < 0.1)
        slab = np.where(joint & (z < 22), np.uint8(_JOINT), np.uint8(_SLAB))
        kinds = np.where(out < end, slab, beyond)
        kinds[(out < verge) & (out >= 0.2)] = _GRASS
        kinds[out < 0.2] = _CURB
        kinds[out < 0] = _PLAIN
        kinds[self._marked(s, z)] = _MARK
        if self.junction is not None:
            first, last = self.junction
            across = (z[:, 0] >= first) & (z[:, 0] < last)
            kinds[across] = _PLAIN
            if self.zebra:
                rows = (z[:, 0] >= first - 3.6) & (z[:, 0] < first - 0.8)
                part = kinds[rows]
                on_road = out[rows] < -0.3
                part[on_road] = np.where(np.mod(s[rows], 1.1) < 0.55, _MARK, _PLAIN)[on_road]
                kinds[rows] = part
        return kinds

    def _marked(self, s: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Where lines between lanes and along the road's edges are, bool (H, W)."""
        dashed = np.mod(z, 7.0) < 3.2
        marked = np.abs(np.abs(s) - self.half + 0.35) < 0.07
        for number, line in enumerate(self.lanes):
            on = np.abs(s - line) < 0.09
            marked |= on if number == 0 and self.solid else on & dashed
        return marked


def paint_ground(canvas: Canvas, camera: Camera, ground: Ground, look: Look) -> None:
    """Paints everything below the horizon."""
    high, wide = canvas.label.shape
    v = (np.arange(high) - (FINE - 1) / 2) / FINE
    v = v[v > camera.horizon + 0.3]
    u = (np.arange(wide) - (FINE - 1) / 2) / FINE
    s, z = camera.ground(u, v)
    kinds = ground.kinds(s, z)
    road, slab = look.pick('road'), look.pick('sidewalk')
    mark = look.pick('mark')
    if look.real:  # worn
        mark = road + (mark - road) * look.draw(0.35, 1.0)
    tones = [road, mark, look.pick('curb'), slab, slab * 0.88, look.pick('terrain')]
    palette = np.stack(tones)
    clear = np.exp(-z / look.reach)
    colours = palette.astype(np.float32)[kinds]
    sharp = np.minimum(1, 14 / z) * np.float32(look.rough) * _ROUGH[kinds]
    grain = look.grain.astype(np.float32)
    at = (np.mod(s * 14, TILE), np.broadcast_to(np.mod(z * 9, TILE), s.shape))
    wave = cv2.remap(grain, *map(np.ascontiguousarray, at), cv2.INTER_NEAREST,
                     borderMode=cv2.BORDER_WRAP)  # fmt: skip
    gain = 1 + wave * sharp
    if look.cast is not None:
        edge, side = look.cast
        steps = edge + np.sign(np.sin(z / 5.0)) * 0.9
        gain = np.where((s - steps) * side > 0, gain * np.float32(0.62), gain)
    colours *= (gain * clear)[..., None]
    colours += (look.haze * (1 - clear)[..., None]).astype(np.float32)
    rows = slice(high - len(v), high)
    canvas.pixels[rows, :, :3] = np.clip(colours, 0, 255)
    canvas.pixels[rows, :, 3] = _LABELS[kinds]


def paint_sky(canvas: Canvas, camera: Camera, look: Look) -> None:
    """Paints the whole canvas as sky."""
    wide, high = canvas.label.shape[1] // 4, canvas.label.shape[0] // 4
    share = np.linspace(0, high * 4 / FINE / max(camera.horizon, 1), high, dtype=np.float32)
    share = np.minimum(share, 1)[:, None]
    top, low, cloud = (
        look.pick(name).astype(np.float32) for name in ('sky_top', 'sky_low', 'cloud')
    )
    sky = top + (low - top) * share[..., None]
    field = noise(look.rng, 7) + (0.5 * noise(look.rng, 18) if look.real else 0)
    field = cv2.resize(field, (wide, 2 * high), interpolation=cv2.INTER_LINEAR)[:high]
    thick = field - look.draw(-0.6, 1.5) if look.real else 9 * (field - 1.1)
    thick = (np.clip(thick, 0, 1) * (1 - share) ** 0.5)[..., None].astype(np.float32)
    small = np.clip(sky + (cloud - sky) * thick, 0, 255).astype(np.uint8)
    canvas.pixels[..., :3] = cv2.resize(small, canvas.label.shape[::-1])
    canvas.pixels[..., 3] = SKY
