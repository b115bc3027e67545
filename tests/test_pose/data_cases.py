"""Small data sets, pipelines and configs that the tests of pose data share."""

import copy
import json
from pathlib import Path

import cv2
import numpy as np

SIZE = (48, 64)


def pipeline(*extra, size=SIZE, udp=False, flip=0.5, box=None):
    """A pipeline with flip, random box and crop; ``extra`` transforms follow the loader."""
    box = box or dict(type='mmdistill.ClippedBBoxTransform')
    return [
        dict(type='LoadImage'),
        *extra,
        *geometry(size, udp, flip, box),
        dict(type='mmdistill.PackSemiPose', use_udp=udp),
    ]


def geometry(size=SIZE, udp=False, flip=0.5, box=None, direction='horizontal'):
    """The transforms between loader and packing."""
    return [
        dict(type='GetBBoxCenterScale'),
        dict(type='RandomFlip', prob=float(flip), direction=direction),
        box or dict(type='RandomBBoxTransform'),
        dict(type='TopdownAffine', input_size=size, use_udp=udp),
    ]


def coco_config(root, split='train', **options):
    """Config of mmpose's dataset over a generated folder."""
    return dict(
        type='CocoDataset',
        data_root=str(root),
        ann_file=f'annotations/person_keypoints_{split}.json',
        data_prefix=dict(img=f'images/{split}/'),
        **options,
    )


def labeled_config(root, **options):
    """Config of the labelled source."""
    return dict(type='mmdistill.LabeledPoseDataset', dataset=coco_config(root), **options)


def unlabeled_config(root, **options):
    """Config of the unlabelled source: the same file."""
    given = dict(
        type='mmdistill.UnlabeledPoseDataset',
        data_root=str(root),
        ann_file='annotations/person_keypoints_train.json',
        data_prefix=dict(img='images/train/'),
    )
    return {**given, **options}


def semi_config(root, labeled=None, unlabeled=None, **options):
    """Config of the whole: 5 labelled people by default."""
    given = dict(
        type='mmdistill.SemiPoseDataset',
        labeled=labeled_config(root, **(dict(indices=5) if labeled is None else labeled)),
        unlabeled=unlabeled_config(root, **(unlabeled or {})),
        labeled_pipeline=pipeline(),
        unlabeled_pipeline=pipeline(),
    )
    return {**given, **options}


def write_coco(root: Path, people: list[dict], images: int = 4, size=(80, 60)) -> Path:
    """Writes a folder with plain images and the given annotations; returns the folder."""
    folder = root / 'images' / 'train'
    folder.mkdir(parents=True)
    (root / 'annotations').mkdir()
    entries = []
    for number in range(1, images + 1):
        image = np.full((size[1], size[0], 3), 20 * number, np.uint8)
        cv2.imwrite(str(folder / f'{number}.png'), image)
        entries.append(dict(id=number, file_name=f'{number}.png', width=size[0], height=size[1]))
    category = dict(id=1, name='person')
    write_annotations(root, dict(images=entries, annotations=people, categories=[category]))
    return root


def write_annotations(root: Path, content: dict) -> Path:
    """Writes the annotation file of the training images."""
    path = root / 'annotations' / 'person_keypoints_train.json'
    path.write_text(json.dumps(content))
    return path


def read_annotations(root: Path) -> dict:
    """Reads the annotation file of the training images."""
    return json.loads((root / 'annotations' / 'person_keypoints_train.json').read_text())


def person(number: int, image: int, **changes) -> dict:
    """An annotated person, all of whose 17 joints lie inside of the image."""
    joints = []
    for joint in range(17):
        joints += [10 + joint, 12 + joint, 2]
    given = dict(
        id=number,
        image_id=image,
        category_id=1,
        iscrowd=0,
        bbox=[5, 6, 40, 45],
        area=900.0,
        num_keypoints=17,
        keypoints=joints,
    )
    return copy.deepcopy({**given, **changes})
