"""Labelled and unlabelled frames of one mmdet3d dataset, with clear errors for broken files."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import Compose
from mmdet3d.datasets.transforms import LoadPointsFromFile
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmdistill.det3d.semi_split import read_split
from mmdistill.det3d.split_file import digest, frame_key, read_split_file, split_id
from mmdistill.registry import DATASETS, TRANSFORMS

ROLES = ('all', 'labeled', 'unlabeled')


class BrokenFrameError(UserError):
    """A file of one frame cannot be used; the message names the file."""


@TRANSFORMS.register_module()
class LoadLiDARPoints(LoadPointsFromFile):
    """``LoadPointsFromFile`` that says which file is broken and how.

    Raises:
        BrokenFrameError: the file is missing, empty, cut off or holds no finite point.
    """

    def transform(self, results: dict) -> dict:
        """Loads and checks the points of one frame; points that are not finite are dropped."""
        path = results['lidar_points']['lidar_path']
        if Path(path).is_file():
            size, row = Path(path).stat().st_size, 4 * self.load_dim
            if size == 0 or size % row:
                problem = 'is empty' if size == 0 else f'has {size} bytes, no multiple of {row}'
                raise BrokenFrameError(f'{path} {problem}: copy the file again')
        try:
            results = super().transform(results)
        except FileNotFoundError as error:
            raise BrokenFrameError(f'{path} is missing: check data_root and data_prefix') from error
        points = results['points']
        finite = points.tensor.isfinite().all(1)
        if not finite.any():
            raise BrokenFrameError(f'{path} holds no finite point: copy the file again')
        if not finite.all():
            results['points'] = points[finite]
        return results


@DATASETS.register_module()
class SemiDet3DDataset(Dataset):
    """An mmdet3d dataset seen as labelled and unlabelled frames.

    Labelled frames come first; ``source_sizes`` says how many there are of each kind, so that
    ``RatioSampler`` can mix them. Every sample carries the meta entries ``labeled``, ``hidden``
    and, when known, ``plane``. Annotations of unlabelled frames are taken away before the
    pipeline runs: training cannot read them. With ``keep_hidden`` they travel as ``hidden`` for
    the quality log only.

    Args:
        dataset: config of any mmdet3d dataset; its own pipeline is not used.
        split_file: labelled frames, a line each: frame id, optionally its index in train.txt; or a
            ``.json`` of :mod:`mmdistill.det3d.split_file`, for any data set.
        role: ``'all'``, ``'labeled'`` or ``'unlabeled'`` frames.
        pipeline: transforms of every frame; ``LoadAnnotations3D`` finds empty annotations for
            unlabelled ones.
        keep_hidden: keep hidden annotations for pseudo-label precision and recall.
        max_broken: unlabelled frames with broken files that are skipped with a warning before
            the run stops; a broken labelled frame stops it at once.

    Raises:
        UserError: the split names unknown frames, or no frame is left.
    """

    def __init__(
        self,
        dataset: dict,
        split_file: str,
        role: str = 'all',
        pipeline: Sequence[dict] = (),
        keep_hidden: bool = True,
        max_broken: int = 10,
    ) -> None:
        if role not in ROLES:
            raise UserError(f'role must be one of {ROLES}, got {role!r}')
        quiet = dict(dataset, pipeline=[], filter_empty_gt=False, test_mode=False)
        self.dataset: BaseDataset = DATASETS.build(quiet)
        self.split_file, self.role = split_file, role
        self.keep_hidden, self.max_broken = keep_hidden, max_broken
        self.broken: set[int] = set()
        self.pipeline = Compose([TRANSFORMS.build(dict(each)) for each in pipeline])
        self._ready = False
        self.full_init()

    @property
    def metainfo(self) -> Mapping:
        """Meta information of the wrapped dataset."""
        return copy.deepcopy(self.dataset.metainfo)

    def full_init(self) -> None:
        """Reads the annotation file and the split once."""
        if self._ready:
            return
        self.dataset.full_init()
        ids, keys = [], []
        for row in range(len(self.dataset)):
            info = self.dataset.get_data_info(row)
            ids.append(frame_id(info))
            keys.append(frame_key(info))
        self.labeled_ids = self._labeled_ids(ids, keys)
        wanted = {'all': (True, False), 'labeled': (True,), 'unlabeled': (False,)}[self.role]
        chosen = [row for row, each in enumerate(ids) if (each in self.labeled_ids) in wanted]
        self.rows = sorted(chosen, key=lambda row: ids[row] not in self.labeled_ids)
        labeled = sum(ids[row] in self.labeled_ids for row in chosen)
        self.source_sizes = (labeled, len(chosen) - labeled)
        self.frame_ids = [ids[row] for row in self.rows]
        if not self.rows:
            raise UserError(f'{self.split_file} leaves no {self.role} frame')
        self._ready = True
        for transform in self.pipeline.transforms:
            if hasattr(transform, 'bind_dataset'):
                transform.bind_dataset(self)

    def _labeled_ids(self, ids: Sequence[int], keys: Sequence[str]) -> set[int]:
        """Ids of the labelled frames; sets ``split_id``, by which resumed runs know the split.

        Raises:
            UserError: the split belongs to other frames.
        """
        if str(self.split_file).endswith('.json'):
            split = read_split_file(self.split_file, keys)
            self.split_id = split_id(split.frames_hash, split.labeled)
            labeled = set(split.labeled)
            return {each for each, key in zip(ids, keys, strict=True) if key in labeled}
        labeled_ids = set(read_split(self.split_file))
        unknown = sorted(labeled_ids - set(ids))
        if unknown:
            raise UserError(
                f'{self.split_file} names frame {unknown[0]:06d}, which is not among the '
                f'{len(ids)} frames of {self.dataset.ann_file}: use the split of this data set'
            )
        self.split_id = split_id(digest(list(map(str, ids))), list(map(str, labeled_ids)))
        return labeled_ids

    def __len__(self) -> int:
        return len(self.rows)

    def get_data_info(self, index: int) -> dict:
        """The info of a frame, annotations of unlabelled frames emptied."""
        info = copy.deepcopy(self.dataset.get_data_info(self.rows[index]))
        info['labeled'] = self.frame_ids[index] in self.labeled_ids
        info['box_type_3d'] = self.dataset.box_type_3d
        info['box_mode_3d'] = self.dataset.box_mode_3d
        info['sample_idx'] = self.frame_ids[index]
        info.setdefault('plane', None)
        annotations = info['ann_info']
        boxes, labels = annotations['gt_bboxes_3d'], annotations['gt_labels_3d']
        info['hidden'] = None
        if not info['labeled']:
            if self.keep_hidden:
                info['hidden'] = (boxes.tensor.numpy(), np.asarray(labels))
            for key in ('instances', 'cam_instances', 'eval_ann_info'):
                info.pop(key, None)
            info['ann_info'] = dict(gt_bboxes_3d=boxes[:0], gt_labels_3d=labels[:0])
        return info

    def __getitem__(self, index: int) -> Any:
        """The frame after the pipeline; a broken unlabelled one is replaced by the next."""
        for offset in range(len(self)):
            info = self.get_data_info((index + offset) % len(self))
            try:
                return self.pipeline(info)
            except BrokenFrameError as error:
                if info['labeled']:
                    raise
                self._skip(info, error)
        raise UserError(f'every frame of {self.dataset.ann_file} is broken')

    def _skip(self, info: dict, error: BrokenFrameError) -> None:
        """Remembers a broken frame, or stops when there are too many."""
        frame = int(info['sample_idx'])
        if frame not in self.broken:
            self.broken.add(frame)
            print_log(
                f'frame {frame:06d} is skipped ({len(self.broken)} of at most {self.max_broken}): '
                f'{error}',
                logger='current',
                level=30,
            )
        if len(self.broken) > self.max_broken:
            raise UserError(
                f'more than max_broken={self.max_broken} unlabelled frames are broken, the last: '
                f'{error}'
            ) from error


def frame_id(info: Mapping) -> int:
    """Frame id of an info: the number in its point file's name.

    mmengine overwrites ``sample_idx`` by the row, so the row is only used for file names that
    are no number.
    """
    stem = Path(info['lidar_points']['lidar_path']).stem
    return int(stem) if stem.isdecimal() else int(info['sample_idx'])
