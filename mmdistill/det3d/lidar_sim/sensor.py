"""The spinning LiDAR: where its rays point, and what makes a hit a return."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


def hdl_elevations(beams: int, top: float = 2.0, bottom: float = -24.8) -> np.ndarray:
    """Elevations in degrees of a two-block LiDAR, top to bottom, (beams,).

    As in the HDL-64E, half of the beams cover the upper 40 % of the field of
    view, so that far objects get more of them.
    """
    upper = beams // 2
    middle = top - 0.4 * (top - bottom)
    return np.concatenate(
        [
            np.linspace(top, middle, upper, endpoint=False),
            np.linspace(middle, bottom, beams - upper),
        ]
    )


@dataclass(frozen=True)
class Lidar:
    """A spinning LiDAR at the origin of its frame (x forward, y left, z up).

    Attributes:
        beams: number of elevations.
        azimuth_step: degrees between two firings.
        sector: half width in degrees of the part of the sweep that is kept, 180 for all.
        max_range: metres.
        range_noise: standard deviation in metres along the ray.
        sensitivity: signal (reflectivity x cos(incidence) / (range/60 m)^2) at which
            half of the hits are lost.
        dropout: share of the hits lost for no reason.
        height: metres above the road.
    """

    beams: int = 48
    azimuth_step: float = 0.2
    sector: float = 50.0
    max_range: float = 80.0
    range_noise: float = 0.02
    sensitivity: float = 0.01
    dropout: float = 0.03
    height: float = 1.73
    elevations: np.ndarray = field(init=False, repr=False, compare=False)
    columns: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Derives the ray grid.

        Raises:
            ValueError: a value that makes no sensor.
        """
        if self.beams < 2 or not 0 < self.azimuth_step <= 10 or not 0 < self.sector <= 180:
            raise ValueError(
                f'no such LiDAR: beams={self.beams} (>= 2), azimuth_step={self.azimuth_step} '
                f'(0 to 10 degrees), sector={self.sector} (0 to 180 degrees)'
            )
        object.__setattr__(self, 'elevations', np.deg2rad(hdl_elevations(self.beams)))
        object.__setattr__(self, 'columns', int(round(2 * self.sector / self.azimuth_step)))

    @property
    def full_sweep(self) -> bool:
        """Whether the azimuth columns close to a circle."""
        return self.sector >= 180

    def azimuths(self, phase: float) -> np.ndarray:
        """Azimuth in radians of each ray, (beams, columns).

        Args:
            phase: where in the first step the sweep begins, 0 to 1. Each beam has
                its own fixed offset below one step on top of it.
        """
        offsets = (np.arange(self.beams) * 0.618034) % 1.0
        grid = np.arange(self.columns)[None, :] + 0.5 * (offsets[:, None] + phase)
        return np.deg2rad(-self.sector + self.azimuth_step * grid)

    def rays(self, phase: float = 0.0) -> np.ndarray:
        """Unit directions, beam-major from the top beam, (beams * columns, 3)."""
        azimuth = self.azimuths(phase)
        elevation = self.elevations[:, None]
        cos = np.cos(elevation)
        xyz = np.stack(
            [
                cos * np.cos(azimuth),
                cos * np.sin(azimuth),
                np.broadcast_to(np.sin(elevation), azimuth.shape),
            ],
            axis=-1,
        )
        return xyz.reshape(-1, 3)

    def detect(
        self,
        distance: np.ndarray,
        cosine: np.ndarray,
        reflectivity: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Turns hits into returns.

        Args:
            distance: metres along the ray, (N,).
            cosine: |cos| of the angle of incidence, (N,).
            reflectivity: 0 to 1 and above for retro-reflectors, (N,).
            rng: source of the noise.

        Returns:
            kept bool (N,), measured distance (N,), intensity 0 to 1 in steps of 0.01 (N,).
        """
        cosine = np.maximum(cosine, 0.03)
        signal = reflectivity * cosine * (60.0 / np.maximum(distance, 1.0)) ** 2
        chance = (1 - self.dropout) * signal / (signal + self.sensitivity)
        kept = (rng.random(distance.shape) < chance) & (distance < self.max_range)
        measured = distance + rng.normal(0, self.range_noise, distance.shape)
        glow = reflectivity * cosine**0.4 * rng.normal(1.0, 0.15, distance.shape)
        intensity = np.round(np.clip(glow, 0, 0.99), 2)
        return kept, measured, intensity
