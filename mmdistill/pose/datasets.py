"""Labelled and unlabelled people as one data set for teacher-student learning."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import Compose
from mmengine.fileio import get as get_bytes
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmdistill.pose.labeled import LabeledPoseDataset
from mmdistill.pose.pipeline_check import check_pipeline
from mmdistill.pose.unlabeled import UnlabeledPoseDataset
from mmdistill.registry import DATASETS, TRANSFORMS

EXCLUDE = ('nobody', 'instances', 'images')


class BrokenImageError(UserError):
    """An image file cannot be used; the message names it."""


@DATASETS.register_module()
class SemiPoseDataset(Dataset):
    """People with and without joints, each kind with a pipeline of its own.

    Labelled people come first; ``source_sizes`` says how many there are of each kind, so that
    ``RatioSampler`` can mix them. Every sample comes from ``PackSemiPose``, which see.

    Args:
        labeled: config of a :class:`LabeledPoseDataset`.
        unlabeled: config of an :class:`UnlabeledPoseDataset`; without ``metainfo`` it gets that of
            the labelled source.
        labeled_pipeline: transforms of labelled people.
        unlabeled_pipeline: transforms of the others; none may depend on joints.
        exclude_labeled: who is left out of the unlabelled source, when both read the same data:
            ``'nobody'`` as the published protocols, labelled ``'instances'``, or everybody on
            the ``'images'`` of labelled people.
        max_broken: unlabelled people with a broken image that are skipped with a warning before
            the run stops, by process; a broken labelled image stops it at once.

    Attributes:
        labeled: the labelled source, with ``instance_ids`` and ``ids_hash``.
        unlabeled: the unlabelled source.
        source_sizes: numbers of labelled and unlabelled people.
        metainfo: of the labelled source.

    Raises:
        UserError: a source is empty or cannot be read, the sources do not fit together, or a
            pipeline cannot work.
    """

    def __init__(
        self,
        labeled: dict,
        unlabeled: dict,
        labeled_pipeline: Sequence[dict],
        unlabeled_pipeline: Sequence[dict],
        exclude_labeled: str = 'nobody',
        max_broken: int = 10,
    ) -> None:
        if exclude_labeled not in EXCLUDE:
            raise UserError(f'exclude_labeled must be one of {EXCLUDE}, got {exclude_labeled!r}')
        check_pipeline(labeled_pipeline, 'labeled_pipeline', labeled=True)
        check_pipeline(unlabeled_pipeline, 'unlabeled_pipeline', labeled=False)
        self.labeled: LabeledPoseDataset = DATASETS.build(dict(labeled))
        self.metainfo: Mapping = self.labeled.metainfo
        more: dict[str, Any] = {}
        if unlabeled.get('metainfo') is None:
            more['metainfo'] = self.metainfo
        if exclude_labeled == 'instances':
            more['exclude'] = self.labeled.instance_ids
        elif exclude_labeled == 'images':
            more['exclude_images'] = self.labeled.image_ids
        for key in more:
            if unlabeled.get(key):
                raise UserError(f'{key} of unlabeled and exclude_labeled exclude each other')
        self.unlabeled: UnlabeledPoseDataset = DATASETS.build({**unlabeled, **more})
        self._check_joints()
        self.source_sizes = (len(self.labeled), len(self.unlabeled))
        self.max_broken = max_broken
        self.broken: set[int] = set()
        self.pipelines = [
            Compose([TRANSFORMS.build(dict(each)) for each in pipeline])
            for pipeline in (labeled_pipeline, unlabeled_pipeline)
        ]

    def _check_joints(self) -> None:
        """Both sources have the same joints."""
        theirs = self.unlabeled.metainfo
        for key in ('num_keypoints', 'flip_indices'):
            if theirs[key] != self.metainfo[key]:
                raise UserError(
                    f'{key} is {self.metainfo[key]} for {self.labeled.ann_file} and {theirs[key]} '
                    f'for {self.unlabeled.source}: leave out metainfo of the unlabelled source'
                )

    def __len__(self) -> int:
        return sum(self.source_sizes)

    def get_data_info(self, index: int) -> dict[str, Any]:
        """What the pipeline gets about a person."""
        count = self.source_sizes[0]
        if index < count:
            return self.labeled.get_data_info(index)
        return self.unlabeled.get_data_info(index - count)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The person after the pipeline; an unlabelled one with a broken image is replaced."""
        labeled, unlabeled = self.source_sizes
        if index < 0:
            index += len(self)
        if index < labeled:
            return self._run(self.get_data_info(index))
        for offset in range(unlabeled):
            place = (index - labeled + offset) % unlabeled
            info = self.unlabeled.get_data_info(place)
            try:
                return self._run(info)
            except BrokenImageError as error:
                self._skip(place, error)
        raise UserError(f'every image of {self.unlabeled.source} is broken')

    def _run(self, info: dict) -> dict[str, Any]:
        """Runs a pipeline; errors by a broken image say so."""
        what = 'labelled' if info['labeled'] else 'unlabelled'
        path, name = info['img_path'], f'{what} person {info["id"]}'
        try:
            sample = self.pipelines[not info['labeled']](info)
        except Exception as error:
            problem = image_problem(path)
            if problem is None:
                raise
            raise BrokenImageError(f'{path}, image of {name}, {problem}') from error
        if sample is None:
            raise BrokenImageError(f'{path}, image of {name}: the pipeline returned nothing')
        return sample

    def _skip(self, place: int, error: BrokenImageError) -> None:
        """Remembers a person with a broken image, or stops when there are too many."""
        if place not in self.broken:
            self.broken.add(place)
            print_log(
                f'skipped ({len(self.broken)} of at most {self.max_broken}): {error}',
                logger='current',
                level=30,
            )
        if len(self.broken) > self.max_broken:
            raise UserError(
                f'the images of more than max_broken={self.max_broken} unlabelled people are '
                f'broken, the last: {error}'
            ) from error


def image_problem(path: str) -> str | None:
    """What is wrong with an image file, None when it can be decoded."""
    try:
        data = get_bytes(path)
    except FileNotFoundError:
        return 'is missing: check data_root and data_prefix'
    except OSError as error:
        return f'cannot be read: {error.strerror or error}'
    if not data:
        return 'is empty: copy the file again'
    if cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is None:
        return 'is no image that can be decoded: copy the file again'
    return None
