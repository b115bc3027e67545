"""One picture: people between background and occluders, seen by a camera, with labels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .canvas import FINE, Canvas
from .fabric import draw_colour, draw_outfit, slope, smooth_noise
from .parts import MOST_PEOPLE, PER_PERSON, SHOWS, person_of
from .people import Person, View, draw_person
from .poses import draw_body, draw_pose
from .scenery import draw_background, draw_decoys, draw_occluder
from .skeleton import Posed, facing, pose_body

_Rng = np.random.Generator
SMALLEST, LARGEST = 64, 1024


@dataclass(frozen=True)
class PictureSettings:
    """What a picture holds.

    Attributes:
        size: width and height in pixels.
        people: fewest and most people.
        occluders: chance of each person to have a thing in front.
        noise: largest standard deviation of the sensor's noise, grey levels of 255.
        blur: largest standard deviation of the lens's blur, pixels.
        upright: people stand or walk, face the camera and are not cut by the border.
    """

    size: int = 160
    people: tuple[int, int] = (1, 3)
    occluders: float = 0.4
    noise: float = 9.0
    blur: float = 1.0
    upright: bool = False

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: a size or count out of range, a chance outside [0, 1], a negative strength.
        """
        if not SMALLEST <= self.size <= LARGEST:
            raise ValueError(f'size must be {SMALLEST} to {LARGEST} pixels, got {self.size}')
        low, high = self.people
        if not 0 <= low <= high <= MOST_PEOPLE:
            raise ValueError(f'people must be a range within 0 to {MOST_PEOPLE}, got {self.people}')
        if not 0 <= self.occluders <= 1:
            raise ValueError(f'occluders must be a chance in [0, 1], got {self.occluders}')
        if self.noise < 0 or self.blur < 0:
            raise ValueError(f'noise and blur must not be negative, got {self.noise}, {self.blur}')


@dataclass(frozen=True)
class Label:
    """What an annotator would write down about one person.

    Attributes:
        keypoints: x, y in pixels and COCO's flag v of each joint, (17, 3): 2 for one that
            is seen, 1 for one that something hides, 0 (with x = y = 0) for one outside the
            picture or one whose place nobody could tell.
        box: x, y, width, height of the visible pixels and the labelled joints, inside the
            picture, (4,).
        area: of the visible pixels, in pixels of the picture.
    """

    keypoints: np.ndarray
    box: np.ndarray
    area: float


@dataclass(frozen=True)
class Picture:
    """A picture with its labels.

    Attributes:
        image: BGR uint8 (size, size, 3).
        labels: of the people of whom something is seen, the farthest first.
        codes: whose part each fine pixel shows, uint8 (FINE * size, FINE * size).
        people: all people, the farthest first.
    """

    image: np.ndarray
    labels: tuple[Label, ...]
    codes: np.ndarray
    people: tuple[Person, ...]


def _place(rng: _Rng, posed: Posed, height: float, want: PictureSettings, count: int) -> View:
    """Draws where in the picture a body stands and how large it is."""
    size = want.size
    flat = posed.points()[:, :2] * (1, -1)
    low, high = flat.min(0) - 0.04 * height, flat.max(0) + 0.04 * height
    top, bottom = (0.58, 1.1) if count == 1 else (0.5, 0.92) if count == 2 else (0.42, 0.8)
    tall = rng.uniform(top, bottom) * (0.75 + 0.25 * height / 1.7)
    near = rng.random() < 0.14 and not want.upright
    if want.upright:
        tall = min(tall, 0.95)
    if near:  # cut by the border
        tall *= rng.uniform(1.4, 2.0)
        y = rng.uniform(-0.05, 0.25) * size - low[1] * tall * size / height
    else:
        y = rng.uniform(0.8, 1.04) * size - high[1] * tall * size / height
        spare = size - (high[1] - low[1]) * tall * size / height
        y -= rng.uniform(0, 0.5) * max(spare, 0)
    scale = tall * size / height
    x = rng.uniform(0.12, 0.88) * size - (low[0] + high[0]) / 2 * scale
    return View(np.array([x, y]), scale, rng.uniform(4, 12))


def _overlap(joints: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of the boxes around two people's joints."""
    low = np.maximum(joints.min(0), other.min(0))
    high = np.minimum(joints.max(0), other.max(0))
    common = np.prod(np.maximum(high - low, 0))
    areas = [np.prod(np.ptp(j, axis=0)) for j in (joints, other)]
    return float(common / (sum(areas) - common + 1e-6))


def compose(rng: _Rng, settings: PictureSettings) -> list[Person]:
    """Draws the people of a picture, the farthest first."""
    low, high = settings.people
    shares = 0.62 ** np.arange(high - low + 1)
    count = int(low + rng.choice(len(shares), p=shares / shares.sum()))
    pitch = float(np.radians(rng.normal(4, 7)))
    people: list[Person] = []
    taken: list[np.ndarray] = []
    for _ in range(count):
        body, outfit = draw_body(rng), draw_outfit(rng)
        pose, kind = draw_pose(rng, pitch, settings.upright)
        posed = pose_body(body, pose)
        seat = draw_colour(rng) if kind == 'sit' and rng.random() < 0.75 else None
        for _ in range(6):
            view = _place(rng, posed, body.height, settings, count)
            joints = view(posed.joints)
            inside = ((joints > 0) & (joints < settings.size - 1)).all(1).sum()
            if inside >= (17 if settings.upright else 7) and all(
                _overlap(joints, other) < 0.45 for other in taken
            ):
                break
        taken.append(joints)
        people.append(Person(body, pose, outfit, view, seat))
    return sorted(people, key=lambda person: person.view.scale)


def visibility(canvas: Canvas, person: Person, number: int) -> np.ndarray:
    """COCO's flags of a painted person's joints, (17,).

    A joint of the face that is turned away a little is hidden by the own head; one
    that is turned away far is not labelled. Shoulder and hip on the far side of a
    trunk seen from the side are hidden by the trunk.
    """
    posed, pixels = person.posed, person.joints
    limit = np.array(canvas.codes.shape[::-1]) / FINE - 1
    inside = ((pixels >= 0) & (pixels <= limit)).all(1)
    around = canvas.codes_around(np.clip(pixels, 0, limit))
    own = person_of(around) == number
    shown = own & SHOWS[np.arange(17)[:, None], around % PER_PERSON]
    seen = shown.sum(1) >= 4
    front = facing(posed)
    seen[:5] &= front > np.array([-0.1, 0, 0, -0.3, -0.3])
    for first in (5, 11):
        behind = posed.joints[first : first + 2, 2] - posed.joints[first : first + 2, 2].mean()
        half = np.linalg.norm(np.diff(posed.joints[first : first + 2], axis=0)) / 2
        seen[first : first + 2] &= behind > -0.8 * half
    flags = np.where(seen, 2, 1)
    flags[:5][front < -0.45] = 0
    return np.where(inside, flags, 0)


def label_person(canvas: Canvas, person: Person, number: int, painted: int) -> Label | None:
    """The label of a painted person, None if almost nothing of them is seen.

    Args:
        canvas: the finished painting.
        person: who was painted.
        number: of the person on the canvas.
        painted: fine pixels of the person before anything nearer was painted.
    """
    mask = person_of(canvas.codes) == number
    area = int(mask.sum())
    if area < 16 * FINE**2:
        return None
    flags = visibility(canvas, person, number)
    if area < 0.12 * painted:  # too little to tell where any joint is
        flags[:] = 0
    keypoints = np.zeros((len(flags), 3))
    keypoints[:, :2] = np.round(person.joints, 2)
    keypoints[:, 2] = flags
    keypoints[flags == 0] = 0
    labelled = keypoints[flags > 0, :2]
    columns, rows = (np.flatnonzero(mask.any(axis)) // FINE for axis in (0, 1))
    corners = np.array([(columns[0], rows[0]), (columns[-1], rows[-1])])
    corners = np.concatenate([corners, np.floor(labelled)])
    start, stop = corners.min(0), corners.max(0) + 1
    return Label(keypoints, np.concatenate([start, stop - start]), area / FINE**2)


def expose(rng: _Rng, picture: np.ndarray, noise: float, blur: float) -> np.ndarray:
    """Light, lens and sensor: a BGR uint8 picture (S, S, 3) to one like it."""
    size = len(picture)
    if rng.random() < 0.5 and blur > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.2, 1) * blur)
    out = picture.astype(np.float32)
    gain = rng.uniform(0.6, 1.2) * np.clip(rng.normal(1, 0.06, 3), 0.8, 1.2)
    light = 1 + float(rng.uniform(0, 0.35)) * slope(rng, size)
    if rng.random() < 0.3:  # patches of shadow
        dark = np.clip(
            4 * (smooth_noise(rng, 4, size) - 0.4), 0, np.float32(rng.uniform(0.2, 0.55))
        )
        light = light * (1 - dark)
    out *= light[..., None] * gain.astype(np.float32)
    level = rng.uniform(0.1, 1) * noise
    if level > 0:
        out += rng.standard_normal(out.shape, np.float32) * np.float32(level)
    out += np.float32(rng.uniform(0, 18))
    return np.clip(out, 0, 255, out=out).astype(np.uint8)


def paint(rng: _Rng, people: list[Person], settings: PictureSettings) -> Picture:
    """Paints people and everything around them, and labels them."""
    size = settings.size
    light = rng.uniform(0.05, 0.3) * np.array([np.cos(a := rng.uniform(0, 2 * np.pi)), np.sin(a)])
    canvas = Canvas(draw_background(rng, size), light)
    draw_decoys(rng, canvas, size)
    painted = []
    for number, person in enumerate(people):
        draw_person(canvas, person, number)
        painted.append(int((person_of(canvas.codes) == number).sum()))
        if rng.random() < settings.occluders:
            joints = person.joints
            at = joints[rng.integers(len(joints))] + rng.normal(0, 0.03 * size, 2)
            reach = rng.uniform(0.08, 0.22) * person.body.height * person.view.scale
            draw_occluder(rng, canvas, at, reach)
    labels = [label_person(canvas, person, n, painted[n]) for n, person in enumerate(people)]
    image = expose(rng, canvas.picture(), settings.noise, settings.blur)
    found = tuple(label for label in labels if label is not None)
    return Picture(image, found, canvas.codes, tuple(people))


def simulate(seed: int, index: int, settings: PictureSettings | None = None) -> Picture:
    """Makes picture ``index`` of the data set ``seed``.

    Args:
        seed: of the data set, not negative.
        index: of the picture, not negative.
        settings: what pictures hold.
    """
    settings = settings or PictureSettings()
    rng = np.random.default_rng((seed, index))
    return paint(rng, compose(rng, settings), settings)
