"""People of whom only a box is known."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from mmdistill.core.errors import UserError
from mmdistill.pose.coco_files import clip_boxes, joints_of, left_out, read_json
from mmdistill.registry import DATASETS

META_KEYS = (
    'dataset_name',
    'upper_body_ids',
    'lower_body_ids',
    'flip_pairs',
    'dataset_keypoint_weights',
    'flip_indices',
    'skeleton_links',
)
"""Entries of the metainfo that mmpose gives to its transforms."""


@DATASETS.register_module()
class UnlabeledPoseDataset:
    """Images and boxes of people, from annotations or from a detector.

    Keypoint annotations are thrown away when the file is read: whatever they hold, the samples
    are the same.

    Args:
        ann_file: COCO's annotation file, or with ``det_file`` any file with COCO's ``images``.
        metainfo: mmpose's meta information; :class:`SemiPoseDataset` gives that of the labelled
            source when it is left out.
        data_root: folder that relative paths start from.
        data_prefix: ``dict(img=...)``, folder of the images.
        det_file: detections instead of annotated boxes, a list of ``{image_id, category_id,
            bbox: [x, y, width, height], score}``.
        min_score: detections below are left out.
        min_size: boxes with a side below are left out, in pixels after clipping.
        category_id: whose boxes are used; None for all categories.
        exclude: annotation ids of people to leave out.
        exclude_images: image ids to leave out.
        with_keypoints_only: uses ``num_keypoints`` of the annotations to leave out people of whom
            no joint is labelled, as the published protocols do. This is a look at the labels.
        keep_hidden: lets the annotated joints travel as ``hidden_keypoints`` (K, 2), in pixels of
            the image as it is on the disk, and ``hidden_visible`` (K,), for logs of the quality
            of pseudo-labels only.

    Attributes:
        ids: (N,) annotation ids, or numbers of the detections in the file.

    Raises:
        UserError: a missing or malformed file, nobody left, a detection on an unknown image, or
            options that do not go together.
    """

    def __init__(
        self,
        ann_file: str,
        metainfo: Mapping | None = None,
        data_root: str = '',
        data_prefix: Mapping | None = None,
        det_file: str | None = None,
        min_score: float = 0.0,
        min_size: float = 0.0,
        category_id: int | None = 1,
        exclude: Iterable[int] = (),
        exclude_images: Iterable[int] = (),
        with_keypoints_only: bool = False,
        keep_hidden: bool = False,
    ) -> None:
        if metainfo is None:
            raise UserError('UnlabeledPoseDataset needs metainfo, or SemiPoseDataset around it')
        known = 'flip_indices' in metainfo
        self.metainfo = dict(metainfo) if known else parse_pose_metainfo(dict(metainfo))
        self.ann_file = str(Path(data_root, ann_file))
        self.det_file = None if det_file is None else str(Path(data_root, det_file))
        self.folder = Path(data_root, (data_prefix or {}).get('img', ''))
        self.source = self.det_file or self.ann_file
        self.category_id, self.keep_hidden = category_id, keep_hidden
        exclude, exclude_images = set(exclude), set(exclude_images)
        if self.det_file and (exclude or with_keypoints_only or keep_hidden):
            raise UserError(
                f'{self.det_file} holds detections: exclude, with_keypoints_only and keep_hidden '
                'need annotations (exclude_images works for both)'
            )
        content = read_json(self.ann_file, 'annotation file')
        if not isinstance(content, dict) or not content.get('images'):
            raise UserError(f"{self.ann_file} holds no list 'images': it must be a COCO file")
        images = {each['id']: each for each in content['images']}
        if self.det_file:
            people = self._detections(images)
        else:
            people = self._people(content, with_keypoints_only)
        people = [each for each in people if each['image_id'] not in exclude_images]
        if exclude and not exclude & {each['id'] for each in people}:
            raise UserError(
                f'{self.ann_file} holds nobody of the {len(exclude)} people to exclude: it numbers '
                'them otherwise, so do not exclude by instances'
            )
        people = [each for each in people if each['id'] not in exclude]
        self._store(people, images, min_score, min_size)

    def _people(self, content: Mapping, with_keypoints_only: bool) -> list[dict]:
        """Annotated people who are no crowd, in the order of the images, as mmpose has them."""
        if 'annotations' not in content:
            raise UserError(f"{self.ann_file} has no 'annotations': name detections in det_file")
        place = {each['id']: row for row, each in enumerate(content['images'])}
        found = []
        for number, each in enumerate(content['annotations']):
            if each.get('iscrowd') or not self._wanted(each):
                continue
            if with_keypoints_only:
                if 'num_keypoints' not in each:
                    raise UserError(
                        f'{self.ann_file}: annotation {each.get("id")} has no num_keypoints, '
                        'which with_keypoints_only needs'
                    )
                if each['num_keypoints'] == 0:
                    continue
            if each.get('image_id') not in place:
                raise UserError(
                    f'{self.ann_file}: annotation {each.get("id")} is on the unknown image '
                    f'{each.get("image_id")}'
                )
            found.append({'id': number, **each, 'score': 1.0})
        return sorted(found, key=lambda each: place[each['image_id']])

    def _detections(self, images: Mapping[int, dict]) -> list[dict]:
        """Detections in the order of their file, numbered by their place in it."""
        content = read_json(self.det_file, 'detection file')
        keys = ('image_id', 'category_id', 'bbox', 'score')
        if not isinstance(content, list):
            raise UserError(f'{self.det_file} must be a list of {", ".join(keys)}')
        for number, each in enumerate(content):
            lack = [key for key in keys if not isinstance(each, dict) or key not in each]
            if lack:
                raise UserError(f'{self.det_file}: detection {number} has no {", ".join(lack)}')
            if each['image_id'] not in images:
                raise UserError(
                    f'{self.det_file}: detection {number} is on image {each["image_id"]}, which '
                    f'is not in {self.ann_file}'
                )
        return [
            {**{key: each[key] for key in keys}, 'id': number}
            for number, each in enumerate(content)
            if self._wanted(each)
        ]

    def _wanted(self, entry: Mapping) -> bool:
        """Whether an entry is of the category; entries without one are."""
        return self.category_id in (None, entry.get('category_id', self.category_id))

    def _store(
        self,
        people: Sequence[Mapping],
        images: Mapping[int, Mapping],
        min_score: float,
        min_size: float,
    ) -> None:
        """Keeps usable boxes in arrays, which the workers of a loader share."""
        readable, broken = [], []
        for each in people:
            box = each.get('bbox')
            usable = isinstance(box, (list, tuple)) and len(box) >= 4
            usable = usable and all(isinstance(v, (int, float)) for v in box[:4])
            usable = usable and np.isfinite(box[:4]).all()
            (readable if usable else broken).append(each)
        left_out(self.source, 'entries without a box of four numbers are', _ids(broken))
        shown = [images[each['image_id']] for each in readable]
        sizes = [(each.get('width', 0), each.get('height', 0)) for each in shown]
        raw = np.array([each['bbox'][:4] for each in readable], np.float64).reshape(-1, 4)
        boxes = clip_boxes(raw, np.array(sizes, np.float64).reshape(-1, 2))
        sides = (boxes[:, 2:] - boxes[:, :2]).min(1)
        scores = np.array([each['score'] for each in readable], np.float32)
        flat = np.flatnonzero(sides <= 0)
        left_out(self.source, 'boxes without area are', _ids([readable[i] for i in flat]))
        rows = np.flatnonzero((sides > 0) & (sides >= min_size) & (scores >= min_score))
        if not len(rows):
            raise UserError(
                f'{self.source} leaves nobody unlabelled: it holds {len(people)} boxes of '
                f'category {self.category_id}; check min_score, min_size and what is excluded'
            )
        self.boxes, self.scores = boxes[rows], scores[rows]
        self.ids = np.array([readable[i]['id'] for i in rows])
        self.image_ids = np.array([readable[i]['image_id'] for i in rows])
        self.files = np.array([str(self.folder / shown[i]['file_name']) for i in rows])
        self.hidden = None
        if self.keep_hidden:
            count = self.metainfo['num_keypoints']
            none = np.zeros((count, 3), np.float32)
            joints = [joints_of(readable[i], count) for i in rows]
            self.hidden = np.stack([none if each is None else each for each in joints])

    def __len__(self) -> int:
        return len(self.ids)

    def get_data_info(self, index: int) -> dict[str, Any]:
        """What a pipeline needs about a person: no joint is visible, and none is known."""
        count = self.metainfo['num_keypoints']
        info = {key: self.metainfo[key] for key in META_KEYS}
        info.update(
            id=self.ids[index].item(),
            img_id=self.image_ids[index].item(),
            img_path=str(self.files[index]),
            bbox=self.boxes[index : index + 1].copy(),
            bbox_score=self.scores[index : index + 1].copy(),
            keypoints=np.zeros((1, count, 2), np.float32),
            keypoints_visible=np.zeros((1, count), np.float32),
            labeled=False,
        )
        if self.hidden is not None:
            info['hidden_keypoints'] = self.hidden[index, :, :2].copy()
            info['hidden_visible'] = (self.hidden[index, :, 2] > 0).astype(np.float32)
        return info


def _ids(entries: Iterable[Mapping]) -> list:
    """Ids of entries."""
    return [each.get('id') for each in entries]
