"""Mean IoU over some of the classes."""

from collections.abc import Mapping, Sequence

import numpy as np
from mmseg.evaluation import IoUMetric

from mmdistill.core.errors import UserError, did_you_mean
from mmdistill.registry import METRICS

SYNTHIA_16 = tuple(c for c in range(19) if c not in (9, 14, 16))
"""Classes of Cityscapes that SYNTHIA has: all but terrain, truck and train."""
SYNTHIA_13 = tuple(c for c in SYNTHIA_16 if c not in (3, 4, 5))
"""Those without wall, fence and pole."""


@METRICS.register_module()
class SubsetIoUMetric(IoUMetric):
    """``IoUMetric`` that also reports the mean IoU of subsets of the classes.

    Args:
        subsets: ids or names of the classes of each subset by the key it is reported under;
            None is ``mIoU16`` and ``mIoU13`` of adaptation from SYNTHIA to Cityscapes. A class
            that is neither labelled nor predicted anywhere does not count, as in ``mIoU``,
            unless ``nan_to_num`` says what it counts as.
        ignore_index: label that is left out.
        iou_metrics: metrics of all classes; ``'mIoU'`` is one of them.
        nan_to_num: number for classes that do not occur.
        beta: weight of recall in the F-score.
        collect_device: where results of several ranks are collected.
        output_dir: folder of predictions as PNG files.
        format_only: write predictions without evaluation.
        prefix: of all keys.

    Raises:
        UserError: a key that other metrics have, an empty subset or a repeated class; when the
            dataset becomes known, a class that it lacks.
    """

    def __init__(
        self,
        subsets: Mapping[str, Sequence[int | str]] | None = None,
        ignore_index: int = 255,
        iou_metrics: Sequence[str] = ('mIoU',),
        nan_to_num: int | None = None,
        beta: int = 1,
        collect_device: str = 'cpu',
        output_dir: str | None = None,
        format_only: bool = False,
        prefix: str | None = None,
    ) -> None:
        super().__init__(
            ignore_index=ignore_index,
            iou_metrics=[iou_metrics] if isinstance(iou_metrics, str) else list(iou_metrics),
            nan_to_num=nan_to_num,
            beta=beta,
            collect_device=collect_device,
            output_dir=output_dir,
            format_only=format_only,
            prefix=prefix,
        )
        if 'mIoU' not in self.metrics:
            raise UserError(f"iou_metrics {self.metrics} must hold 'mIoU' for means of subsets")
        self.subsets = dict(subsets or dict(mIoU16=SYNTHIA_16, mIoU13=SYNTHIA_13))
        for key, classes in self.subsets.items():
            if key in ('aAcc', 'mIoU', 'mAcc', 'mDice', 'mFscore', 'mPrecision', 'mRecall'):
                raise UserError(f'subsets: {key!r} is the mean of all classes, use another key')
            if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
                raise UserError(f'subsets[{key!r}] must list different classes, got {classes!r}')

    @property
    def dataset_meta(self) -> Mapping | None:
        """Meta information of the dataset."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: Mapping) -> None:
        """Takes it over and finds the classes of the subsets."""
        names = list(dataset_meta['classes'])
        self._ids = {
            key: [_class_id(key, c, names) for c in self.subsets[key]] for key in self.subsets
        }
        self._dataset_meta = dataset_meta

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Computes the metrics of all classes and the means of the subsets.

        Args:
            results: areas of intersection, union, prediction and label per image, each (C,).

        Returns:
            What ``IoUMetric`` returns, and the mean IoU of every subset in percent.
        """
        metrics = super().compute_metrics(results)
        if self.format_only:
            return metrics
        areas = [sum(each) for each in zip(*results, strict=True)]
        iou = self.total_area_to_metrics(*areas, ['mIoU'], self.nan_to_num, self.beta)['IoU']
        for key, ids in self._ids.items():
            chosen = iou[ids]
            some = bool(np.isfinite(chosen).any())
            metrics[key] = float(np.round(np.nanmean(chosen) * 100, 2)) if some else float('nan')
        return metrics


def _class_id(key: str, wanted: int | str, names: list[str]) -> int:
    """Id of a class of the subset ``key``, given by id or name."""
    if isinstance(wanted, str) and wanted in names:
        return names.index(wanted)
    if not isinstance(wanted, str) and 0 <= wanted < len(names):
        return int(wanted)
    raise UserError(
        f'subsets[{key!r}]: the dataset has no class {wanted!r}{did_you_mean(str(wanted), names)}; '
        f'it has {len(names)} classes: {names}'
    )
