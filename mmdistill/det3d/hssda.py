"""HSSDA: Hierarchical Supervision and Shuffle Data Augmentation (CVPR 2023, arXiv:2304.01464).

The teacher judges each of its boxes on a raw scene by several scores (classification,
objectness, overlap with its answer on an augmented view). Per class and score, exact 2-means
of the scores of trusted boxes gives a high and a low threshold. They sort the boxes:

* high (all scores above the high thresholds): mined in rounds, stored, used as hard labels;
* ambiguous (all above the low ones): labels with a soft weight, found in every step;
* low: points inside are deleted from the student's scene, if it touches no kept box.

The student's unlabelled scenes are cut into patches and shuffled; its features are put back.

What the paper's text leaves open follows the official code. Deviations and switches:

* thresholds are fitted exactly instead of by randomly initialised KMeans (B10);
* a weight belongs to its box, not to an index (B1-B3); the teacher moves after the step (B5);
* stored boxes are never corrected (B8): ``high.refresh=True`` forgets boxes that no longer
  pass the low thresholds (ours);
* threshold pools of the view overlap take all pairs (B9): ``pairs='best'`` takes one a box;
* a round sees one augmented view (the paper). With few labelled frames the pool of overlaps is
  small and depends on that draw: ``pool_views=N`` adds those of further views of the labelled
  frames (ours);
* rounds read all frames: ``mining.source='training_buffer'`` (ours) costs no extra pass;
* the high threshold is the centre of the upper cluster: ``thresholds.high_at='boundary'`` lowers it
  to the border of the clusters (ours), for trainings with fewer rounds than the paper's;
* pedestrians get no ambiguous labels in the official code, against the paper:
  ``ambiguous.exclude_classes=('Pedestrian',)`` (default: none excluded);
* the soft weight is the product of ``ambiguous.weight`` scores: ``('cls', 'objectness')`` in
  the official code; single-stage detectors have no objectness (default: all scores), CenterPoint
  has ``heatmap_peak``, which is almost its ``cls``;
* points are removed in the second stage's boxes before its last NMS, as in the official code;
  ``low.before_nms=False`` takes the final boxes, as single-stage detectors always do;
* features are unshuffled after the sparse encoder (official); a pillar encoder mixes nothing in
  space, so ``'neck'`` is the default there; ``shuffle.labeled=True`` also shuffles labelled scenes.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor

from mmdistill.core.errors import UserError, options_of
from mmdistill.core.pseudo import PseudoStats
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.boxes import bev_iou, iou_3d, points_in_batch_boxes
from mmdistill.det3d.judgement import Judgement, matched_pairs, rows_of
from mmdistill.det3d.judgement_buffer import JudgementBuffer
from mmdistill.det3d.pseudo_store import PseudoLabelStore
from mmdistill.det3d.quality import hidden_stats
from mmdistill.det3d.round_records import (
    by_frame,
    every_box,
    fallen_boxes,
    joined,
    mined_boxes,
    records_of,
    score_pools,
)
from mmdistill.det3d.score_providers import build_score
from mmdistill.det3d.semi_detector import SceneBatch, SemiDet3D
from mmdistill.det3d.views import ViewRange
from mmdistill.registry import MODELS

HIGH, AMBIGUOUS, LOW = 2, 1, 0
SOURCES = ('passes', 'training_buffer')
"""Where mining rounds take the teacher's judgement from."""
SCENES_AT_ONCE = 64
"""Scenes of a buffer whose views are compared in one call."""
DEFAULTS: Mapping = MappingProxyType({})


def overlap_sum(boxes: BoxBatch, kept: BoxBatch, space: str = 'bev') -> Tensor:
    """(B, N) sum over kept boxes of the overlap with each box (hssda 1.4, 1.6, 1.7)."""
    if kept.boxes.shape[1] == 0:
        return boxes.boxes.new_zeros(boxes.boxes.shape[:2])
    iou = bev_iou if space == 'bev' else iou_3d
    return (iou(boxes.boxes, kept.boxes) * kept.valid[:, None]).sum(-1)


def soft_weights(scores: Tensor, chosen: Sequence[int]) -> Tensor:
    """(..., ) product of the chosen ones of (..., S) scores (hssda 1.6)."""
    return scores[..., list(chosen)].prod(-1)


@MODELS.register_module()
class HSSDA(SemiDet3D):
    """The method; see the module's docstring and :class:`SemiDet3D` for shared arguments.

    Args:
        teacher_view: the teacher's augmented view.
        scores: score providers, by name or config.
        thresholds: config of the dual-threshold filter; without ``type`` the arguments of
            ``DualThresholdFilter`` (``init``, ``min_pool``, ``decimals``, ``high_at``).
        match_iou: overlap sum from which a prediction counts as trusted.
        pairs: ``'all'`` or ``'best'``, see :func:`~mmdistill.det3d.judgement.matched_pairs`.
        pool_views: augmented views of labelled frames that fill the pool of overlaps (1); with a
            training buffer, views of as many training steps, if it holds them.
        mining: ``source='passes'``: a round reads all frames twice (the paper);
            ``'training_buffer'`` (ours): it takes what the teacher said in the training steps since
            the last one, of at most ``scenes`` scenes a rank and ``boxes`` boxes a scene. The first
            round, for which there is nothing, reads the frames.
        high: ``min_points`` (more than 5 in the paper's code: 6), ``refresh``; None: no mining.
        ambiguous: ``weight`` (score names), ``exclude_classes``; None: no soft labels.
        low: ``score_thr`` of boxes whose points are removed, ``before_nms`` (two-stage detectors:
            True takes the boxes before the last suppression); None: no removal.
        **shared: arguments of :class:`SemiDet3D`, which refuses unknown ones.

    Raises:
        UserError: an unknown key or a value out of range; the message names it.
    """

    def __init__(
        self,
        *,
        teacher_view: dict | None = None,
        scores: Sequence[str | dict] = ('cls', 'view_iou'),
        thresholds: dict | None = None,
        match_iou: float = 0.5,
        pairs: str = 'all',
        pool_views: int = 1,
        mining: Mapping = DEFAULTS,
        high: Mapping | None = DEFAULTS,
        ambiguous: Mapping | None = DEFAULTS,
        low: Mapping | None = DEFAULTS,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if pairs not in ('all', 'best'):
            raise UserError(f"pairs must be 'all' or 'best', got {pairs!r}")
        if not isinstance(pool_views, int) or pool_views < 1:
            raise UserError(f'pool_views must be a number from 1 on, got {pool_views!r}')
        if not 0 < match_iou <= 1:
            raise UserError(f'match_iou must lie in (0, 1], got {match_iou}')
        decimals = (thresholds or {}).get('decimals')
        if decimals is not None and decimals < 0:
            raise UserError(f'thresholds.decimals must not be negative, got {decimals}')
        view = dict(flip_prob=1.0, rotation=(-0.785, 0.785), scale=(0.91, 1.12))
        self.teacher_view = ViewRange(**{**view, **(teacher_view or {})})
        self.providers = [build_score(score) for score in scores]
        self.score_names = [provider.name for provider in self.providers]
        # the pool of a score holds what the score measures
        view_ious = [each.iou for each in self.providers if each.name == 'view_iou']
        self.view_iou = view_ious[0] if view_ious else bev_iou
        filter_cfg = dict(type='mmdistill.DualThresholdFilter', scores=tuple(self.score_names))
        filter_cfg.update(class_names=self.class_names, **(thresholds or {}))
        self.filter = ROOT_MODELS.build(filter_cfg)
        self.store = PseudoLabelStore(self.box_dim)
        self.refresh_buffers = ['filter', 'store']
        self.buffer = self._buffer(mining)
        self.step_judgement: tuple[Judgement, list[int], list[bool]] | None = None
        self.match_iou, self.pairs, self.pool_views = match_iou, pairs, pool_views
        self.high = _level('high', high, dict(min_points=6, refresh=False))
        self.ambiguous = _level(
            'ambiguous', ambiguous, dict(weight=tuple(self.score_names), exclude_classes=())
        )
        self.low = _level('low', low, dict(score_thr=0.1, before_nms=True))
        if self.low and self.low['before_nms'] and hasattr(self.teacher, 'roi_head'):
            self.teacher_test_cfg['keep_before_nms'] = True
        self.before_nms: BoxBatch | None = None
        if self.high and not (isinstance(least := self.high['min_points'], int) and least >= 0):
            raise UserError(f'high.min_points must be a whole number from 0, got {least}')
        if self.low and not 0 <= self.low['score_thr'] <= 1:
            raise UserError(f'low.score_thr must lie in [0, 1], got {self.low["score_thr"]}')
        if self.buffer is not None and not (self.ambiguous or self.low):
            raise UserError(
                "mining.source='training_buffer': without ambiguous and low levels no training "
                "step asks the teacher; use 'passes'"
            )
        if self.ambiguous:
            weight, excluded = self.ambiguous['weight'], self.ambiguous['exclude_classes']
            self.weight_columns = _positions('ambiguous.weight', weight, self.score_names)
            self.excluded = _positions('ambiguous.exclude_classes', excluded, self.class_names)

    def _buffer(self, mining: Mapping) -> JudgementBuffer | None:
        """The buffer of judgements, where rounds take them.

        Raises:
            UserError: an unknown source.
        """
        known = dict(source=SOURCES[0], scenes=4096, boxes=100)
        found = options_of('mining', mining, known)
        if found['source'] not in SOURCES:
            raise UserError(f'mining.source must be one of {SOURCES}, got {found["source"]!r}')
        if found['source'] == SOURCES[0]:
            return None
        shape = (found['scenes'], found['boxes'], len(self.score_names), self.box_dim)
        return JudgementBuffer(*shape)

    # ---------------------------------------------------------------- teacher's judgement

    def judge(self, points: Any, frames: list[int], purpose: int) -> tuple[BoxBatch, BoxBatch, Any]:
        """Teacher's boxes of both views in raw coordinates and (B, N, S) scores of the raw view.

        ``before_nms`` becomes the raw view's boxes before the last suppression, where known.
        """
        weak, extra = self.teacher_predict(points)
        self.before_nms = extra.get('before_nms')
        other = self.other_view(points, frames, purpose)
        scores = [provider(weak, other, extra) for provider in self.providers]
        return weak, other, torch.stack(scores, -1)

    def other_view(self, points: Any, frames: list[int], purpose: int) -> BoxBatch:
        """Teacher's boxes of an augmented view, in raw coordinates."""
        generators = self.generators(frames, purpose)
        uniform = torch.stack([torch.rand(3, generator=g) for g in generators])
        view = self.teacher_view.draw(uniform).to(points.points.device)
        moved = type(points)(view.points(points.points, points.sample), points.sample, points.batch)
        other, _ = self.teacher_predict(moved)
        return other.with_boxes(view.inverse().boxes(other.boxes))

    def kept_boxes(self, scenes: SceneBatch) -> BoxBatch:
        """Ground truth of labelled scenes and stored (high) boxes of unlabelled ones."""
        stored = [self.store.frame(frame) for frame in scenes.frames]
        nothing = self.store.boxes[:0], self.store.labels[:0]
        chosen = [
            nothing if labeled else (boxes, labels)
            for labeled, (boxes, labels, _) in zip(scenes.labeled, stored, strict=True)
        ]
        mined = BoxBatch.from_lists([each[0] for each in chosen], [each[1] for each in chosen])
        return scenes.boxes + mined

    # ---------------------------------------------------------------- online: three levels

    def pseudo_labels(self, scenes: SceneBatch) -> tuple[BoxBatch, BoxBatch | None]:
        """High, ambiguous and low level of a batch (hssda 1.5-1.7)."""
        kept = self.kept_boxes(scenes)
        rows = scenes.unlabeled_rows()
        if len(rows) == 0 or not (self.ambiguous or self.low):
            return self.ramped(kept, rows), None
        weak, scores = self.judge_step(scenes, rows)
        stored = kept.select(rows)
        soft = self.soft_boxes(weak, stored, scores)
        new = stored + soft
        suppressed = None
        if self.low:
            every = weak if self.before_nms is None else self.before_nms
            untouched = overlap_sum(every, new, '3d') <= 0
            suppressed = every.keep((every.weights > self.low['score_thr']) & untouched)
            suppressed = suppressed.scatter(rows, len(scenes.frames))
        self.pseudo_stats = self.stats(
            weak, scores, new, [scenes.samples[r] for r in rows.tolist()]
        )
        return self.ramped(kept + soft.scatter(rows, len(scenes.frames)), rows), suppressed

    def judge_step(self, scenes: SceneBatch, rows: Tensor) -> tuple[BoxBatch, Tensor]:
        """Boxes and scores of the unlabelled scenes of a step; all are judged for the buffer."""
        if self.buffer is None:
            frames = [scenes.frames[row] for row in rows.tolist()]
            weak, _, scores = self.judge(scenes.points.select(rows), frames, purpose=1)
            return weak, scores
        found = self.judged(scenes, purpose=1)
        self.step_judgement = (found, scenes.frames, scenes.labeled)
        if self.before_nms is not None:
            self.before_nms = self.before_nms.select(rows)
        return found.weak.select(rows), found.scores[rows]

    def ramped(self, boxes: BoxBatch, rows: Tensor) -> BoxBatch:
        """The same boxes, weights of the scenes ``rows`` times the buffer ``unsup_weight``."""
        weights = boxes.weights.clone()
        weights[rows] *= self.unsup_weight
        return boxes.with_weights(weights)

    def soft_boxes(self, weak: BoxBatch, kept: BoxBatch, scores: Tensor) -> BoxBatch:
        """Ambiguous boxes with their soft weights; they overlap no kept box."""
        if not self.ambiguous:
            return weak.keep(torch.zeros_like(weak.valid))
        passed = self.levels(scores, weak.labels) >= AMBIGUOUS
        for label in self.excluded:
            passed &= weak.labels != label
        soft = weak.keep(passed & (overlap_sum(weak, kept) == 0))
        return soft.with_weights(soft_weights(scores, self.weight_columns))

    def levels(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(B, N) level of (B, N, S) scores by the current thresholds."""
        flat = self.filter.levels(scores.flatten(0, 1), labels.flatten().clamp(min=0))
        return flat.view(labels.shape)

    def stats(self, weak: BoxBatch, scores: Tensor, new: BoxBatch, samples: list) -> PseudoStats:
        """Counts for the pseudo-label quality log, precision where hidden truth is present."""
        return hidden_stats(weak, new, scores, samples, len(self.class_names))

    # ---------------------------------------------------------------- mining rounds

    def judged(self, scenes: SceneBatch, purpose: int) -> Judgement:
        """Teacher's judgement of whole scenes, with what is known of them."""
        kept = self.kept_boxes(scenes)
        weak, other, scores = self.judge(scenes.points, scenes.frames, purpose)
        inside = points_in_batch_boxes(
            scenes.points.points[:, :3], scenes.points.sample, weak.boxes, weak.valid
        )
        counts = torch.zeros(weak.boxes.shape[:2], device=inside.device)
        counts.index_add_(0, scenes.points.sample, inside.to(counts.dtype))
        trusted, trusted_other = overlap_sum(weak, kept), overlap_sum(other, kept)
        return Judgement(weak, other, scores, trusted, trusted_other, counts)

    def mine(self, scenes: SceneBatch) -> list[dict]:
        """Teacher's judgement of whole scenes, one record of CPU tensors per frame."""
        found = self.judged(scenes, purpose=2)
        pools = self.overlap_pools(scenes, found)
        return records_of(found, pools, scenes.frames, scenes.labeled)

    def buffered_records(self) -> list[dict]:
        """Records of the scenes of the training steps since the last round."""
        found, frames, labeled = self.buffer.newest(self.pool_views)
        first: dict[int, int] = {}
        views: dict[int, list] = {}
        for rows in torch.arange(len(frames)).split(SCENES_AT_ONCE):
            for row, pool in zip(rows.tolist(), self.pools(rows_of(found, rows)), strict=True):
                first.setdefault(frames[row], row)
                views.setdefault(frames[row], []).append(pool)
        newest = rows_of(found, torch.tensor(list(first.values()), dtype=torch.long))
        labeled = [labeled[row] for row in first.values()]
        return records_of(newest, [joined(each) for each in views.values()], list(first), labeled)

    def pools(self, found: Judgement) -> list[tuple[Tensor, Tensor]]:
        """Overlaps between both views of each judged scene, and their classes."""
        trusted, other = (each >= self.match_iou for each in (found.trusted, found.trusted_other))
        given = found.weak, found.other, trusted, other, self.pairs, self.view_iou
        overlaps, classes, scenes = matched_pairs(*given)
        counts = torch.bincount(scenes, minlength=len(found.trusted)).tolist()
        return list(zip(overlaps.split(counts), classes.split(counts), strict=True))

    def overlap_pools(self, scenes: SceneBatch, found: Judgement) -> list[tuple[Tensor, Tensor]]:
        """Per scene, what it adds to the pool of view overlaps: overlaps and classes."""
        every = torch.arange(len(scenes.frames), device=found.trusted.device)
        views = [(every, found)]
        labeled = every[torch.tensor(scenes.labeled, device=every.device)]
        if len(labeled) and self.pool_views > 1:
            points = scenes.points.select(labeled)
            frames = [scenes.frames[row] for row in labeled.tolist()]
            kept, own = self.kept_boxes(scenes).select(labeled), rows_of(found, labeled)
            for purpose in range(3, self.pool_views + 2):  # 0 to 2 are those of other draws
                other = self.other_view(points, frames, purpose)
                views.append((labeled, own.with_other(other, overlap_sum(other, kept))))
        pools: list[list] = [[] for _ in scenes.frames]
        for rows, judged in views:
            for row, pool in zip(rows.tolist(), self.pools(judged), strict=True):
                pools[row].append(pool)
        return [joined(each) for each in pools]

    def refresh(self, records: list[dict]) -> None:
        """Fits the thresholds and mines the high level; independent of the records' order."""
        records = by_frame(records)
        pools = score_pools(records, self.score_names, len(self.class_names), self.match_iou)
        self.filter.fit(pools)
        if not self.high or all(record['labeled'] for record in records):
            return
        device = self.filter.high.device
        judged = (every_box(records, name).to(device) for name in ('scores', 'labels'))
        level = self.filter.levels(*judged).cpu()
        confidence = self.score_names.index('cls') if 'cls' in self.score_names else 0
        found = mined_boxes(records, level == HIGH, self.high['min_points'], confidence)
        evict = None
        if self.high['refresh']:
            stored = self.store.contents()
            evict = fallen_boxes(stored, records, level >= AMBIGUOUS, self.match_iou)
        self.store.update(found, int(self.store.version), evict)


def _positions(key: str, names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Places of some names among the known ones.

    Raises:
        UserError: an unknown name.
    """
    for name in names:
        if name not in known:
            raise UserError(f'{key}: unknown name {name!r}; known: {list(known)}')
    return [list(known).index(name) for name in names]


def _level(name: str, given: Mapping | None, defaults: dict) -> dict | None:
    """Options of a level; None switches it off."""
    return None if given is None else options_of(name, given, defaults)
