"""The skeleton: sizes of a body, angles of a pose, and where both put the joints.

The body's axes are x to the person's own left, y up, z forward. With a yaw of 0
the person faces the camera; the camera's axes are x to the right of the image,
y up and z towards the camera. Lengths are metres, angles radians.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

JOINTS = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
    'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip',
    'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
)  # fmt: skip
"""COCO's joints in COCO's order."""
LINKS = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9),
    (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
"""COCO's ``skeleton``: pairs of joints that are linked, counted from 1 as COCO does."""
FLIP_INDICES = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""The joint that each joint becomes in a mirror."""
SIDES = (1.0, -1.0)
"""Sign of x on the left and on the right, in the order of all paired values."""


@dataclass(frozen=True)
class Body:
    """Proportions of one person.

    Attributes:
        height: stature in metres.
        build: factor on the thickness of trunk and limbs.
        head: factor on the size of the head; children have large ones.
        legs: factor on the length of the legs.
        shoulders: factor on the width of the shoulders.
    """

    height: float = 1.72
    build: float = 1.0
    head: float = 1.0
    legs: float = 1.0
    shoulders: float = 1.0

    def head_radii(self) -> np.ndarray:
        """Half the width, height and depth of the head, (3,)."""
        return np.array([0.046, 0.066, 0.056]) * self.height * self.head


@dataclass(frozen=True)
class Pose:
    """Angles of one person; pairs hold the left value first.

    Attributes:
        yaw: turn of the whole body; at pi / 2 the person faces the right of the image.
        roll: tilt of the whole body towards the left of the image.
        pitch: of the camera, positive when it looks down.
        spine: forward bend, bend to the person's right, twist to the left, (3,).
        neck: turn of the head to the left, nod, tilt, (3,).
        hips: forward flexion, abduction, outward twist of each thigh, (2, 3).
        knees: flexion, (2,).
        shoulders: as ``hips``, of each upper arm, (2, 3).
        elbows: flexion, (2,).
    """

    yaw: float
    roll: float
    pitch: float
    spine: np.ndarray
    neck: np.ndarray
    hips: np.ndarray
    knees: np.ndarray
    shoulders: np.ndarray
    elbows: np.ndarray

    def mirrored(self) -> Pose:
        """The pose as a mirror shows it: left and right are swapped."""
        return replace(
            self,
            yaw=-self.yaw,
            roll=-self.roll,
            spine=self.spine * (1, -1, -1),
            neck=self.neck * (-1, 1, -1),
            hips=self.hips[::-1],
            knees=self.knees[::-1],
            shoulders=self.shoulders[::-1],
            elbows=self.elbows[::-1],
        )


@dataclass(frozen=True)
class Posed:
    """Where a body has its points, relative to the middle of its hips, in the camera's axes.

    Attributes:
        joints: COCO's joints, (17, 3).
        hands: fingertips of the closed hand, left and right, (2, 3).
        heels: (2, 3).
        toes: (2, 3).
        neck: upper end of the spine, (3,).
        waist: (3,).
        head: middle of the head, (3,).
        trunk: rotation of the chest, (3, 3).
        pelvis: rotation of the hips, (3, 3).
        skull: rotation of the head, (3, 3).
    """

    joints: np.ndarray
    hands: np.ndarray
    heels: np.ndarray
    toes: np.ndarray
    neck: np.ndarray
    waist: np.ndarray
    head: np.ndarray
    trunk: np.ndarray
    pelvis: np.ndarray
    skull: np.ndarray

    def points(self) -> np.ndarray:
        """All points, (N, 3)."""
        single = np.stack([self.neck, self.head])
        return np.concatenate([self.joints, self.hands, self.heels, self.toes, single])


def turn(axis: int, angle: float) -> np.ndarray:
    """A rotation about x, y or z (0, 1, 2), (3, 3)."""
    c, s = np.cos(angle), np.sin(angle)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = c
    matrix[a, b], matrix[b, a] = -s, s
    return matrix


_DOWN = np.array([0.0, -1.0, 0.0])


def _limb(base: np.ndarray, angles: np.ndarray, side: float) -> np.ndarray:
    """Rotation of an upper limb on a rotated trunk, (3, 3)."""
    flexion, abduction, twist = angles
    return base @ turn(0, -flexion) @ turn(2, side * abduction) @ turn(1, side * twist)


def pose_body(body: Body, pose: Pose) -> Posed:
    """Puts a body into a pose; mirroring the pose mirrors the result."""
    h = body.height
    pelvis = turn(0, pose.pitch) @ turn(2, pose.roll) @ turn(1, pose.yaw)
    bend, side_bend, twist = pose.spine
    lower = pelvis @ turn(1, 0.3 * twist) @ turn(0, 0.5 * bend) @ turn(2, 0.5 * side_bend)
    trunk = pelvis @ turn(1, twist) @ turn(0, bend) @ turn(2, side_bend)
    look, nod, tilt = pose.neck
    # the head makes up for part of the bend: people look where they go
    skull = trunk @ turn(0, -0.55 * bend) @ turn(1, look) @ turn(0, nod) @ turn(2, tilt)
    waist = lower @ (0, 0.10 * h, 0)
    neck = waist + trunk @ (0, 0.20 * h, 0)
    radii = body.head_radii()
    head = neck + trunk @ (0, 0.035 * h, 0) + skull @ (0, 0.6 * radii[1] + 0.018 * h, 0.01 * h)

    joints = np.zeros((17, 3))
    face = np.array([(0, -0.12, 1.1), (0.4, 0.12, 0.9), (-0.4, 0.12, 0.9), (1, 0, 0), (-1, 0, 0)])
    joints[:5] = head + (face * radii) @ skull.T
    hands, heels, toes = np.zeros((3, 2, 3))
    for k, side in enumerate(SIDES):
        shoulder = neck + trunk @ (side * 0.103 * body.shoulders * h, -0.012 * h, 0)
        upper = _limb(trunk, pose.shoulders[k], side)
        fore = upper @ turn(0, -pose.elbows[k])
        elbow = shoulder + upper @ _DOWN * (0.165 * h)
        wrist = elbow + fore @ _DOWN * (0.145 * h)
        hands[k] = wrist + fore @ _DOWN * (0.05 * h)
        hip = pelvis @ (side * 0.055 * h, 0, 0)
        thigh = _limb(pelvis, pose.hips[k], side)
        shin = thigh @ turn(0, pose.knees[k])
        knee = hip + thigh @ _DOWN * (0.24 * h * body.legs)
        ankle = knee + shin @ _DOWN * (0.235 * h * body.legs)
        heels[k] = ankle + shin @ (0, -0.025 * h, -0.025 * h)
        toes[k] = ankle + shin @ (0, -0.032 * h, 0.095 * h)
        joints[5 + k :: 2] = shoulder, elbow, wrist, hip, knee, ankle
    return Posed(joints, hands, heels, toes, neck, waist, head, trunk, pelvis, skull)


FACE_NORMALS = np.array(
    [(0, 0, 1), (0.35, 0, 0.94), (-0.35, 0, 0.94), (0.98, 0, -0.17), (-0.98, 0, -0.17)]
)
"""Which way the skin of the face's five joints looks, in the head's axes, (5, 3)."""


def facing(posed: Posed) -> np.ndarray:
    """Cosine between the view and the skin at nose, eyes and ears, 1 is frontal, (5,)."""
    return (FACE_NORMALS @ posed.skull.T)[:, 2]
