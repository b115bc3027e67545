"""KITTI's metric for configs, in place of mmdet3d's, without a GPU."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.evaluator import BaseMetric
from mmengine.fileio import dump, load
from mmengine.logging import print_log

from mmdistill.det3d.kitti_eval import evaluate_frames
from mmdistill.det3d.kitti_predictions import (
    ground_truth_anno,
    prediction_anno,
    prediction_anno_2d,
    submission_lines,
)
from mmdistill.det3d.kitti_result import KittiResult
from mmdistill.registry import METRICS

_FIELDS = ('bboxes', 'scores', 'labels')
_METRICS = {'bbox': ('bbox', 'bev', '3d'), 'img_bbox': ('bbox',)}


@METRICS.register_module()
class KittiMetric(BaseMetric):
    """KITTI average precision of 3D (``pred_instances_3d``) and 2D (``pred_instances``) results.

    Takes the arguments of ``mmdet3d.KittiMetric``. It needs no GPU, reads the info file once,
    finds a frame by its point cloud's file name (mmdet3d: by its position in the info file), and
    leaves classes without ground truth out of the means (mmdet3d: AP 0).

    Results are named ``{class}_{2D|BEV|3D|AOS}_AP{11|40}_{easy|moderate|hard}_{strict|loose}``,
    and ``mAP{11|40}_{2D|BEV|3D|AOS}_{difficulty}`` for the mean over the classes at the strict
    overlaps; those of 2D detectors come with ``pred_instances/`` before that.

    Args:
        ann_file: Path of the info file of the evaluated frames.
        metric: ``bbox`` (2D, BEV, 3D and orientation), ``img_bbox`` (2D only) or both.
        pcd_limit_range: Least x, y, z and greatest x, y, z in metres of the bottom centres of
            LiDAR boxes that are evaluated.
        prefix: First part of the results' names, by default ``Kitti``.
        pklfile_prefix: Folder to write the detections to, in one pickle per kind of result.
        default_cam_key: Camera of the info file in whose image labels and detections live.
        format_only: Only write files, for splits without labels. Needs ``submission_prefix``.
        submission_prefix: Folder to write text files for KITTI's server to.
        collect_device: ``cpu`` or ``gpu``, where ranks exchange results.
        backend_args: mmengine's file backend for the info file.
        pred_fov_only: Drop predictions whose projection misses the image, as the official
            preparation does. Otherwise they count as false positives, on the whole image in 2D.

    Raises:
        KeyError: If ``metric`` is unknown.
        ValueError: If ``format_only`` comes without ``submission_prefix``.
    """

    default_prefix = 'Kitti'

    def __init__(
        self,
        ann_file: str,
        metric: str | Sequence[str] = 'bbox',
        pcd_limit_range: Sequence[float] = (0, -40, -3, 70.4, 40, 0.0),
        prefix: str | None = None,
        pklfile_prefix: str | None = None,
        default_cam_key: str = 'CAM2',
        format_only: bool = False,
        submission_prefix: str | None = None,
        collect_device: str = 'cpu',
        backend_args: dict | None = None,
        pred_fov_only: bool = True,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file = ann_file
        self.metrics = [metric] if isinstance(metric, str) else list(metric)
        unknown = [name for name in self.metrics if name not in _METRICS]
        if unknown or not self.metrics:
            raise KeyError(f'metric must be some of {sorted(_METRICS)}, got {self.metrics}')
        if format_only and submission_prefix is None:
            raise ValueError('format_only=True needs submission_prefix, the folder to write to')
        self.pcd_limit_range = list(pcd_limit_range)
        self.pklfile_prefix = pklfile_prefix
        self.default_cam_key = default_cam_key
        self.format_only = format_only
        self.submission_prefix = submission_prefix
        self.backend_args = backend_args
        self.pred_fov_only = pred_fov_only
        self._infos: list[dict] | None = None
        self._names: dict[int, str] = {}
        self._position: dict[str, int] = {}
        self._ground_truth: dict[int, dict] = {}
        self._warned: set[str] = set()

    def process(self, data_batch: dict, data_samples: Sequence[Mapping]) -> None:
        """Keeps the predictions of a batch, on the CPU.

        Args:
            data_batch: Not used.
            data_samples: Outputs of the model as dicts, each with ``sample_idx``, and if known
                ``lidar_path``, and predictions.
        """
        for sample in data_samples:
            kept = {key: sample[key] for key in ('sample_idx', 'lidar_path') if key in sample}
            for kind in ('pred_instances_3d', 'pred_instances'):
                fields = sample.get(kind)
                fields = fields.to_dict() if hasattr(fields, 'to_dict') else fields
                if fields:
                    wanted = [key for key in fields if key.split('_')[0] in _FIELDS]
                    kept[kind] = {key: fields[key].detach().cpu() for key in wanted}
            self.results.append(kept)

    def compute_metrics(self, results: Sequence[Mapping]) -> dict[str, float]:
        """Evaluates the predictions of all frames.

        Args:
            results: What :meth:`process` kept, of all ranks.

        Returns:
            Percentages by name; empty with ``format_only``.

        Raises:
            KeyError: If the info file lacks a field, or the dataset names a class that KITTI
                does not evaluate.
            ValueError: If there are no results, or frames repeat or are not in the info file.
        """
        classes = list(self.dataset_meta['classes'])
        positions = self._positions(results)
        scalars: dict[str, float] = {}
        for kind in ('pred_instances_3d', 'pred_instances'):
            if not any(kind in result for result in results):
                continue
            annos = [
                self._anno(kind, *pair, classes) for pair in zip(results, positions, strict=True)
            ]
            self._write(kind, annos, positions)
            if not self.format_only:
                result = self._evaluate(kind, annos, positions, classes)
                place = '' if kind == 'pred_instances_3d' else f'{kind}/'
                scalars.update({place + key: value for key, value in result.scalars().items()})
        return scalars

    def _evaluate(self, kind, annos, positions, classes) -> KittiResult:
        """Evaluates one kind of results and logs tables and warnings."""
        wanted = {m for name in self.metrics for m in _METRICS[name]}
        metrics = [m for m in _METRICS['bbox'] if m in wanted]
        metrics = ['bbox'] if kind == 'pred_instances' else metrics
        for i in positions:
            if i not in self._ground_truth:
                self._ground_truth[i] = ground_truth_anno(self._infos[i], self._names)
        result = evaluate_frames(
            [self._ground_truth[i] for i in positions], annos, classes, metrics
        )
        if lacking := result.without_gt():
            self._warn_once(
                f'no ground truth in {self.ann_file} for {", ".join(lacking)}: their AP is nan and '
                'they are left out of the mean'
            )
        if few := result.few_gt():
            self._warn_once(
                f'fewer than 40 objects in {self.ann_file}: {", ".join(few)}. The protocol caps '
                'the AP of N such objects near N / 40; compare it with other splits at your peril'
            )
        title = f'KITTI AP of {kind}, easy moderate hard, {len(positions)} frames'
        tables = '\n\n'.join(result.table(recalls) for recalls in (40, 11))
        print_log(f'{title}\n{tables}', logger='current')
        return result

    def _anno(self, kind, result, position, classes) -> dict:
        """The annotation of one frame's predictions."""
        if kind == 'pred_instances':
            return prediction_anno_2d(result[kind], classes)
        return prediction_anno(
            result[kind],
            self._infos[position],
            classes,
            self.default_cam_key,
            self.pcd_limit_range,
            self.pred_fov_only,
        )

    def _positions(self, results) -> list[int]:
        """Finds the frames of the results in the info file."""
        if not results:
            raise ValueError('no predictions were processed, there is nothing to evaluate')
        if self._infos is None:
            self._read()
        positions = [self._find(result) for result in results]
        if len(set(positions)) < len(positions):
            twice = [i for n, i in enumerate(positions) if i in positions[:n]]
            raise ValueError(
                f'{len(twice)} frames come twice in the predictions, first {self._stem(twice[0])!r}'
            )
        if len(positions) < len(self._infos):
            self._warn_once(
                f'evaluating {len(positions)} of the {len(self._infos)} frames of {self.ann_file}'
            )
        return positions

    def _find(self, result: Mapping) -> int:
        """Position of one result's frame in the info file."""
        path = result.get('lidar_path')
        if path is not None and self._position:
            if Path(path).name not in self._position:
                raise ValueError(f'{path} was evaluated but is no frame of {self.ann_file}')
            return self._position[Path(path).name]
        index = int(result['sample_idx'])
        if not 0 <= index < len(self._infos):
            raise ValueError(
                f'sample_idx {index} was evaluated but {self.ann_file} has only '
                f'{len(self._infos)} frames; is it the info file of the evaluated dataset?'
            )
        return index

    def _read(self) -> None:
        """Reads the info file."""
        content = load(self.ann_file, backend_args=self.backend_args)
        if not isinstance(content, Mapping) or 'data_list' not in content:
            raise ValueError(
                f'{self.ann_file} is no info file of mmdet3d 1.x: it has no "data_list"; convert '
                "it with mmdet3d's tools/dataset_converters/update_infos_to_v2.py"
            )
        self._infos = content['data_list']
        categories = content.get('metainfo', {}).get('categories', {})
        self._names = {number: name for name, number in categories.items()}
        names = [info.get('lidar_points', {}).get('lidar_path') for info in self._infos]
        stems = {Path(name).name: i for i, name in enumerate(names) if name}
        self._position = stems if len(stems) == len(self._infos) else {}

    def _write(self, kind: str, annos: list[dict], positions: list[int]) -> None:
        """Writes the files that were asked for."""
        if self.pklfile_prefix is not None:
            path = Path(self.pklfile_prefix, f'{kind}.pkl')
            path.parent.mkdir(parents=True, exist_ok=True)
            named = zip(annos, positions, strict=True)
            dump([{**anno, 'frame_id': self._stem(i)} for anno, i in named], str(path))
            print_log(f'{len(annos)} frames of {kind} are in {path}', logger='current')
        if self.submission_prefix is not None:
            folder = Path(self.submission_prefix, kind)
            folder.mkdir(parents=True, exist_ok=True)
            for anno, i in zip(annos, positions, strict=True):
                lines = submission_lines(anno)
                (folder / f'{self._stem(i)}.txt').write_text(''.join(f'{x}\n' for x in lines))
            print_log(f'{len(annos)} files for the server are in {folder}', logger='current')

    def _stem(self, position: int) -> str:
        """The frame's id, as KITTI names its files."""
        info = self._infos[position]
        path = info.get('lidar_points', {}).get('lidar_path')
        return Path(path).stem if path else f'{int(info.get("sample_idx", position)):06d}'

    def _warn_once(self, message: str) -> None:
        """Logs a warning unless it was logged before."""
        if message not in self._warned:
            self._warned.add(message)
            print_log(message, logger='current', level=logging.WARNING)
