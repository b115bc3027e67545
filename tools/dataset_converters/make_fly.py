"""Turns a DeepPoseKit annotation set (HDF5) into images and COCO keypoint files.

Example: ``make_fly.py --source example_annotation_set.h5 --out data/fly``. The fly of
``DeepPoseKit-Data`` has 32 joints, whose names are known here; ``--names`` names others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from generated_folder import Progress, generate

VERSION = 1
"""Raise it when the same arguments give another folder than before."""
FLY = ['head', 'eyeL', 'eyeR', 'neck', 'thorax', 'abdomen']
FLY += [f'{leg}leg{side}{n}' for side in 'RL' for leg in ('fore', 'mid', 'hind') for n in '1234']
FLY += ['wingL', 'wingR']
BOX_PADDING = 0.05
"""Boxes are the joints' bounds, grown to each side by this share of their longer side."""


@dataclass(frozen=True)
class AnnotationSet:
    """Content of a DeepPoseKit file.

    Attributes:
        images: (N, H, W, C) uint8, grey or BGR.
        joints: (N, K, 2) x, y in pixels.
        visible: (N, K) bool, the joint is labelled.
        parents: (K,) joint each hangs on, -1 for none.
        swaps: (K,) joint each becomes in a mirror, itself for those in the middle.
        mended: joints whose mirror partner was wrong in the file.
    """

    images: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    parents: list[int]
    swaps: list[int]
    mended: list[int]


def pair_joints(claims: list[int]) -> tuple[list[int], list[int]]:
    """Makes a pairing of the mirror partners that joints claim.

    In the published fly some joints of the left middle leg claim partners that do not claim them.
    Joints are asked in their order, and those who are taken are not asked again.

    Args:
        claims: partner of each joint, -1 for none.

    Returns:
        The partner of each joint, itself for none, and the joints whose claim was not met.
    """
    swaps = list(range(len(claims)))
    for joint, partner in enumerate(claims):
        free = swaps[joint] == joint and 0 <= partner < len(claims)
        if free and partner != joint and swaps[partner] == partner:
            swaps[joint], swaps[partner] = partner, joint
    alone = [joint if claim < 0 else claim for joint, claim in enumerate(claims)]
    return swaps, [joint for joint, claim in enumerate(alone) if swaps[joint] != claim]


def read_annotation_set(path: Path) -> AnnotationSet:
    """Reads a DeepPoseKit file.

    A joint is labelled where its flag ``annotated`` is set. Files without any flag set, as the
    published fly, hold labels for all joints.

    Raises:
        OSError: the file is missing or no HDF5.
        ValueError: something is missing in it, or sizes do not agree.
        ModuleNotFoundError: h5py is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'reading HDF5 needs h5py: pip install -r requirements/pose.txt'
        ) from error
    with h5py.File(path, 'r') as file:
        for key in ('images', 'annotations'):
            if key not in file:
                raise ValueError(f'{path} holds no {key!r}: it is no DeepPoseKit annotation set')
        images, joints = file['images'][:], file['annotations'][:]
        flags = file['annotated'][:].astype(bool) if 'annotated' in file else None
        skeleton = file['skeleton'][:] if 'skeleton' in file else None
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(f'{path}: images are {images.dtype} of shape {images.shape}, not uint8')
    if joints.ndim != 3 or joints.shape[0] != len(images) or joints.shape[2] != 2:
        raise ValueError(f'{path}: annotations of shape {joints.shape} for {len(images)} images')
    count = joints.shape[1]
    skeleton = np.full((count, 2), -1) if skeleton is None else skeleton
    if skeleton.shape != (count, 2):
        raise ValueError(f'{path}: skeleton of shape {skeleton.shape} for {count} joints')
    visible = np.isfinite(joints).all(2)
    if flags is not None and flags.any():
        if flags.shape != visible.shape:
            raise ValueError(f'{path}: annotated of shape {flags.shape} for {count} joints')
        visible &= flags
    swaps, mended = pair_joints(skeleton[:, 1].tolist())
    return AnnotationSet(images, joints, visible, skeleton[:, 0].tolist(), swaps, mended)


def annotation(number: int, joints: np.ndarray, visible: np.ndarray, size: tuple) -> dict:
    """COCO's entry of the animal on image ``number``.

    Args:
        number: id of the image, and of the entry.
        joints: (K, 2) in pixels.
        visible: (K,) bool, at least one of them.
        size: width and height of the image.
    """
    low, high = joints[visible].min(0), joints[visible].max(0)
    margin = BOX_PADDING * (high - low).max() + 1
    low = np.clip(low - margin, 0, None)
    side = np.minimum(high + margin, np.array(size) - 1) - low
    numbers: list[float] = []
    for (x, y), seen in zip(joints.tolist(), visible.tolist(), strict=True):
        numbers += [round(x, 3), round(y, 3), 2] if seen else [0, 0, 0]
    return {
        'id': number, 'image_id': number, 'category_id': 1, 'iscrowd': 0,
        'bbox': [round(v, 3) for v in (*low.tolist(), *side.tolist())],
        'area': round(float(side.prod()), 3), 'num_keypoints': int(visible.sum()),
        'keypoints': numbers,
    }  # fmt: skip


def draw_split(count: int, share: float, seed: int) -> dict[str, list[int]]:
    """Row numbers of ``train`` and ``val``, in order; ``val`` is the drawn share, rounded."""
    order = np.random.default_rng(seed).permutation(count)
    held = int(count * share + 0.5)
    return {'train': sorted(order[held:].tolist()), 'val': sorted(order[:held].tolist())}


def write(folder: Path, data: AnnotationSet, names: list[str], share: float, seed: int) -> None:
    """Writes ``images/*.png`` and ``annotations/{train,val}.json`` into an empty folder."""
    (folder / 'images').mkdir()
    (folder / 'annotations').mkdir()
    progress, size = Progress('images'), data.images.shape[2:0:-1]
    for row, image in enumerate(data.images):
        done, content = cv2.imencode('.png', image)
        if not done:
            raise OSError('OpenCV cannot write PNG files')
        (folder / 'images' / f'{row + 1:06d}.png').write_bytes(content.tobytes())
        progress(row + 1, len(data.images))
    links = [[p + 1, joint + 1] for joint, p in enumerate(data.parents) if p >= 0]
    category = {'id': 1, 'name': 'animal', 'keypoints': names, 'skeleton': links,
                'flip_indices': data.swaps}  # fmt: skip
    for split, rows in draw_split(len(data.images), share, seed).items():
        images = [{'id': row + 1, 'file_name': f'{row + 1:06d}.png', 'width': size[0],
                   'height': size[1]} for row in rows]  # fmt: skip
        entries = [annotation(row + 1, data.joints[row], data.visible[row], size)
                   for row in rows if data.visible[row].any()]  # fmt: skip
        content = {'images': images, 'annotations': entries, 'categories': [category]}
        (folder / 'annotations' / f'{split}.json').write_text(json.dumps(content) + '\n')


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--source', type=Path, required=True, metavar='HDF5')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--val-share', type=float, default=0.2, help='of the images')
    parser.add_argument('--seed', type=int, default=0, help='of the split')
    parser.add_argument('--names', nargs='+', help='of the joints, in order')
    parser.add_argument('--overwrite', action='store_true', help='replace what DIR holds')
    args = parser.parse_args(argv)
    try:
        if not 0 <= args.val_share < 1 or args.seed < 0:
            raise ValueError('--val-share must lie in [0, 1) and --seed must not be negative')
        data = read_annotation_set(args.source)
        count = data.joints.shape[1]
        names = args.names or (
            FLY if count == len(FLY) else [f'joint{i:02d}' for i in range(count)]
        )
        if len(set(names)) != count:
            raise ValueError(f'{args.source} has {count} joints, --names needs {count} of them')
        manifest = {
            'kind': 'deepposekit', 'version': VERSION, 'val_share': args.val_share,
            'seed': args.seed, 'names': names,
            'source': hashlib.sha256(args.source.read_bytes()).hexdigest(),
        }  # fmt: skip
        made = generate(
            args.out, manifest, args.overwrite,
            lambda folder: write(folder, data, names, args.val_share, args.seed),
        )  # fmt: skip
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f'make_fly: {error}', file=sys.stderr)
        return 2
    if data.mended:
        print(f'mirror partners mended: {", ".join(names[i] for i in data.mended)}')
    print(f'{args.out}: {"done" if made else "is there already, nothing to do"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
