"""Filling the object bank from a dataset: at the start of training, and inside a pipeline."""

import math
from typing import Any

import torch
from mmcv.transforms import BaseTransform
from mmdet3d.datasets.transforms import LoadPointsFromFile, LoadPointsFromMultiSweeps
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.core.rng import key_generator
from mmdistill.det3d.box_batch import BoxBatch, PointBatch
from mmdistill.det3d.datasets import SemiDet3DDataset
from mmdistill.det3d.object_bank import ObjectBank
from mmdistill.det3d.pseudo_store import PseudoLabelStore
from mmdistill.registry import HOOKS, TRANSFORMS


def semi_dataset(dataset: Any) -> SemiDet3DDataset:
    """The :class:`SemiDet3DDataset` inside wrappers such as ``RepeatDataset``.

    Raises:
        UserError: there is none.
    """
    while not isinstance(dataset, SemiDet3DDataset):
        inner = getattr(dataset, 'dataset', None)
        if inner is None:
            raise UserError(
                f'the training dataset is a {type(dataset).__name__}; object bank and mining need '
                "type='mmdistill.SemiDet3DDataset', which knows the labelled frames"
            )
        dataset = inner
    return dataset


LOADERS = (LoadPointsFromFile, LoadPointsFromMultiSweeps)
"""Transforms that read points."""


def raw_points(dataset: SemiDet3DDataset, index: int) -> Tensor:
    """(P, 3 + F) points of a frame as its files hold them, earlier sweeps among them.

    Raises:
        UserError: the pipeline has no transform that loads points.
    """
    loaders = [each for each in dataset.pipeline.transforms if isinstance(each, LOADERS)]
    if not any(isinstance(each, LoadPointsFromFile) for each in loaders):
        raise UserError(
            'the pipeline of the training dataset loads no points: put '
            "type='mmdistill.LoadLiDARPoints' first"
        )
    results = dataset.get_data_info(index)
    for each in loaders:
        results = each.transform(results)
    return results['points'].tensor


def add_labeled(bank: ObjectBank, dataset: SemiDet3DDataset) -> None:
    """Crops the objects of the labelled frames, and of no other.

    Objects of difficulty -1 (KITTI: too far, hidden or cut off for any level of its evaluation)
    stay out, as in the official code's GT sampling.
    """
    for index, frame in enumerate(dataset.frame_ids):
        if frame not in dataset.labeled_ids:
            continue
        truth = dataset.get_data_info(index)['ann_info']
        boxes, labels = truth['gt_bboxes_3d'].tensor, torch.as_tensor(truth['gt_labels_3d'])
        if 'difficulty' in truth:
            fair = torch.as_tensor(truth['difficulty']) >= 0
            boxes, labels = boxes[fair], labels[fair]
        bank.add_frame(frame, raw_points(dataset, index), boxes, labels)
    counts = torch.bincount(bank.labels, minlength=len(bank.class_names)).tolist()
    listing = ', '.join(f'{n} {c}' for n, c in zip(bank.class_names, counts, strict=True))
    print_log(f'object bank: {listing} from labelled frames', logger='current')
    for name, count, wanted in zip(bank.class_names, counts, bank.groups.tolist(), strict=True):
        if wanted and not count:
            print_log(
                f'object bank: no {name} with enough points in the labelled frames; none is pasted',
                logger='current',
                level=30,
            )


def add_mined(bank: ObjectBank, dataset: SemiDet3DDataset, store: PseudoLabelStore) -> None:
    """Replaces the bank's mined objects by those of the store (unlabelled frames only).

    Raises:
        UserError: the store holds a frame that the dataset lacks.
    """
    bank.drop_mined()
    rows = {frame: index for index, frame in enumerate(dataset.frame_ids)}
    for frame in store.frame_ids():
        if frame not in rows:
            raise UserError(
                f'the pseudo-label store holds boxes of frame {frame:06d}, which the training '
                'dataset lacks: resume with the dataset and split of the checkpoint'
            )
        if frame in dataset.labeled_ids:
            continue
        boxes, labels, _ = store.frame(frame)
        bank.add_frame(frame, raw_points(dataset, rows[frame]), boxes, labels, mined=True)


@HOOKS.register_module()
class ObjectBankHook(Hook):
    """Fills the model's object bank before training, after a checkpoint was loaded."""

    priority = 'LOW'

    def before_train(self, runner: Runner) -> None:
        """Labelled objects, and the mined ones of a resumed store."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if model.bank is None:
            return
        dataset = semi_dataset(runner.train_dataloader.dataset)
        model.bank.clear()
        add_labeled(model.bank, dataset)
        if hasattr(model, 'store'):
            add_mined(model.bank, dataset, model.store)


@TRANSFORMS.register_module()
class ObjectBankSample(BaseTransform):
    """GT sampling from the object bank inside a pipeline, for supervised training.

    The bank is filled from the labelled frames of the :class:`SemiDet3DDataset` that owns the
    pipeline. Uses torch's global generator, so resumed runs repeat it.

    Args:
        class_names: class names in label order.
        use_ground_plane: set objects on the plane of the frame, where it is known.
        **bank: further arguments of :class:`ObjectBank`.
    """

    def __init__(self, class_names: list[str], use_ground_plane: bool = False, **bank: Any) -> None:
        self.bank = ObjectBank(class_names=class_names, **bank)
        self.use_ground_plane = use_ground_plane
        self.dataset: SemiDet3DDataset | None = None

    def bind_dataset(self, dataset: SemiDet3DDataset) -> None:
        """Remembers the dataset; the bank is filled at the first sample."""
        self.dataset = dataset

    def transform(self, results: dict) -> dict:
        """Pastes objects into one frame."""
        if self.dataset is None:
            raise UserError("ObjectBankSample works in a pipeline of 'mmdistill.SemiDet3DDataset'")
        if len(self.bank) == 0:
            add_labeled(self.bank, self.dataset)
        boxes, labels = results['gt_bboxes_3d'], torch.as_tensor(results['gt_labels_3d'])
        scene = PointBatch.from_list([results['points'].tensor])
        present = BoxBatch.from_lists([boxes.tensor], [labels])
        seed = int(torch.randint(2**31, ()))
        planes = None
        if self.use_ground_plane:
            plane = results.get('plane')
            planes = torch.tensor([[math.nan] * 4 if plane is None else list(plane)])
        scene, present = self.bank.paste(scene, present, [key_generator(seed)], planes)
        new_boxes, new_labels, _ = present.lists()[0]
        results['points'] = results['points'].new_point(scene.points)
        results['gt_bboxes_3d'] = boxes.new_box(new_boxes)
        results['gt_labels_3d'] = new_labels.numpy()
        return results
