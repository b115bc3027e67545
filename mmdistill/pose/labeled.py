"""The labelled people of a semi-supervised training set, and a record of who they are."""

import hashlib
import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log

from mmdistill.core.errors import UserError, did_you_mean
from mmdistill.pose.coco_files import (
    check_joint_counts,
    clip_boxes,
    left_out,
    misplaced_joints,
    read_json,
    some,
)
from mmdistill.registry import DATASETS, HOOKS

RECORD = 'labeled_instances.json'


@dataclass(frozen=True)
class Fold:
    """A share of the images, drawn with a seed; everybody on a drawn image is labelled.

    The images are shuffled once per (seed, index) and the first of them taken. So shares with
    the same index are nested (1 % is part of 5 %), and different indices are independent draws
    that may overlap. The draw depends on the ids of the images that show anybody, not on their
    order in the file.

    Attributes:
        percent: share of the images in percent, rounded, at least one image.
        index: which of several draws, from 0.
        seed: of all draws.

    Raises:
        UserError: a number out of range.
    """

    percent: float
    index: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.percent <= 100 and self.index >= 0 and self.seed >= 0):
            raise UserError(f'fold needs 0 < percent <= 100, index >= 0 and seed >= 0, got {self}')

    @classmethod
    def parse(cls, options: Mapping) -> 'Fold':
        """Makes a fold of a config's dict.

        Raises:
            UserError: an unknown key, or no percent.
        """
        known = set(inspect.signature(cls).parameters)
        for key in options:
            if key not in known:
                near = did_you_mean(key, known)
                raise UserError(f'unknown key {key!r} of fold{near}: correct or remove it')
        if 'percent' not in options:
            raise UserError('fold needs percent, for instance fold=dict(percent=10)')
        return cls(**options)

    def draw(self, images: Sequence[int | str]) -> set[int | str]:
        """The drawn ids of a list of image ids (with or without repetitions)."""
        unique = sorted(set(images))
        order = np.random.default_rng((self.seed, self.index)).permutation(len(unique))
        count = max(1, int(len(unique) * self.percent / 100 + 0.5))
        return {unique[i] for i in order[:count]}


@DATASETS.register_module()
class LabeledPoseDataset:
    """People with joints from any top-down mmpose dataset, all of them or a chosen part.

    The whole annotation file is checked when it is read.

    Args:
        dataset: config of an mmpose dataset; its own pipeline is not used.
        indices: the first N people in the order of the file, after mmpose's own filter, as the
            published 1K / 5K / 10K protocol takes them.
        fold: ``dict(percent=..., index=0, seed=0)``, see :class:`Fold`; instead of ``indices``.

    Attributes:
        instance_ids: annotation ids of the people, in the order of the samples.
        image_ids: ids of the images they are on.
        ids_hash: SHA-256 in hex of the ids as lines of text.
        metainfo: mmpose's meta information.

    Raises:
        UserError: both ways of choosing, nobody left, fewer people than ``indices``, a missing
            file, or annotations that cannot be used (all of them are looked at).
    """

    def __init__(
        self, dataset: dict, indices: int | None = None, fold: Mapping | None = None
    ) -> None:
        if dataset.get('indices') is not None:
            raise UserError('indices stands inside of dataset: put it beside it, or use fold')
        if indices is not None and fold is not None:
            raise UserError('labelled people are chosen by indices or by fold, not by both')
        drawn = None if fold is None else Fold.parse(fold)
        quiet = dict(dataset, pipeline=[], test_mode=False, lazy_init=True)
        self.dataset: BaseDataset = DATASETS.build(quiet)
        if getattr(self.dataset, 'data_mode', None) != 'topdown':
            kind = type(self.dataset).__name__
            raise UserError(f'{kind} is no mmpose dataset of data_mode topdown')
        self.ann_file = str(self.dataset.ann_file)
        self.metainfo = self.dataset.metainfo
        misplaced = self._check_file()
        self._load()
        infos = [self._brief(row) for row in range(len(self.dataset))]
        self._check_counts(infos)
        rows = self._choose(infos, indices, drawn)
        self.instance_ids = [int(infos[row]['id']) for row in rows]
        self.image_ids = list(dict.fromkeys(infos[row]['img_id'] for row in rows))
        self.ids_hash = hash_ids(self.instance_ids)
        wrong = [each for each in self.instance_ids if each in misplaced]
        if wrong:
            raise UserError(
                f'{self.ann_file}: annotation {wrong[0]}: {misplaced[wrong[0]]}; '
                f'{len(wrong)} such annotations: {some(wrong)}'
            )
        if len(rows) < len(infos):
            self.dataset.get_subset_(rows)

    def _load(self) -> None:
        """Lets mmpose read the file; mmengine cannot serialise an empty list."""
        try:
            self.dataset.full_init()
        except ValueError as error:
            if len(self.dataset.data_list):
                raise
            raise UserError(f'{self.ann_file} holds nobody with box and joints') from error
        if not len(self.dataset):
            raise UserError(f'{self.ann_file} holds nobody with box and joints')

    def _brief(self, row: int) -> dict[str, Any]:
        """Ids of a person and of the image, and the number of joints."""
        info = BaseDataset.get_data_info(self.dataset, row)
        return dict(id=info['id'], img_id=info['img_id'], joints=info['keypoints'].shape[-2])

    def _check_file(self) -> dict[int, str]:
        """Checks a COCO file before mmpose reads it; returns what is wrong with the joints."""
        if not self.ann_file.endswith('.json'):
            return {}
        content = read_json(self.ann_file, 'annotation file')
        if not isinstance(content, dict) or 'annotations' not in content:
            return {}
        people = content['annotations']
        check_joint_counts(self.ann_file, people, self.metainfo['num_keypoints'])
        sizes = _image_sizes(content)
        flat = []
        for each in people:
            if 'bbox' in each and 'keypoints' in each:
                size = sizes.get(each.get('image_id'), (0, 0))
                box = clip_boxes(np.array([each['bbox']], float), np.array([size]))[0]
                if not (box[2:] > box[:2]).all():
                    flat.append(each.get('id'))
        left_out(self.ann_file, 'labelled boxes without area are', flat)
        return misplaced_joints(people, sizes)

    def _check_counts(self, infos: Sequence[Mapping]) -> None:
        """Compares the joints that were read with the metainfo, for files of any format."""
        count = self.metainfo['num_keypoints']
        wrong = [info['id'] for info in infos if info['joints'] != count]
        if wrong:
            raise UserError(
                f'{self.ann_file}: annotation {wrong[0]} has not the {count} joints of the '
                f'metainfo; {len(wrong)} such annotations: {some(wrong)}'
            )

    def _choose(self, infos: Sequence[Mapping], count: int | None, fold: Fold | None) -> list[int]:
        """Rows of the chosen people in the order of the file."""
        if fold is not None:
            images = fold.draw([info['img_id'] for info in infos])
            return [row for row, info in enumerate(infos) if info['img_id'] in images]
        if count is None:
            return list(range(len(infos)))
        if not 0 < count <= len(infos):
            raise UserError(
                f'indices={count}: {self.ann_file} holds {len(infos)} people with joints'
            )
        return list(range(count))

    def __len__(self) -> int:
        return len(self.instance_ids)

    def get_data_info(self, index: int) -> dict[str, Any]:
        """What a pipeline needs about a person; without images and without the dataset."""
        info = self.dataset.get_data_info(index)
        for key in ('raw_ann_info', 'segmentation', 'sample_idx'):
            info.pop(key, None)
        info['labeled'] = True
        return info


def _image_sizes(content: Mapping) -> dict[int, tuple[int, int]]:
    """Width and height of COCO's images by id, where the file names them."""
    images = content.get('images', ())
    return {each['id']: (each['width'], each['height']) for each in images if 'width' in each}


def hash_ids(ids: Sequence[int]) -> str:
    """SHA-256 in hex of ids written as one line each."""
    return hashlib.sha256(''.join(f'{each}\n' for each in ids).encode()).hexdigest()


@HOOKS.register_module()
class LabeledInstancesHook(Hook):
    """Writes who is labelled into ``labeled_instances.json`` of the run's folder.

    The file holds ``ann_file``, ``sha256`` and ``ids`` of the labelled source. It is written
    once, before training, by the main process, whole or not at all. A resumed run whose labels
    are others than the recorded ones is warned about.
    """

    def before_train(self, runner: Any) -> None:
        """Writes the record."""
        labeled = getattr(runner.train_dataloader.dataset, 'labeled', None)
        if not isinstance(labeled, LabeledPoseDataset):
            raise UserError(
                'LabeledInstancesHook needs mmdistill.SemiPoseDataset as training dataset'
            )
        if not is_main_process():
            return
        path = Path(runner.work_dir) / RECORD
        record = dict(ann_file=labeled.ann_file, sha256=labeled.ids_hash, ids=labeled.instance_ids)
        if runner.iter > 0 and path.is_file() and _recorded(path) != labeled.ids_hash:
            print_log(f'{path}: training started with other labels', logger='current', level=30)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f'.{RECORD}.part-{os.getpid()}')
        try:
            part.write_text(json.dumps(record) + '\n', encoding='utf-8')
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def _recorded(path: Path) -> str | None:
    """The hash in a record, None when it cannot be read."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))['sha256']
    except (OSError, ValueError, KeyError, TypeError):
        return None
