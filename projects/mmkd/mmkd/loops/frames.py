"""Evaluation of a model of frames by what it writes, and by how well it predicts the references."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_dist_info
from mmengine.evaluator import Evaluator

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model
from mmkd.cobra.students.dataset import CobraFrameDataset
from mmkd.cobra.students.frame_texts import frame_texts
from mmkd.language.collate import padded_collate
from mmkd.language.generation import evaluating
from mmkd.language.metric import PerplexityMetric
from mmkd.language.seq2seq_batches import seq2seq_collate
from mmkd.loops.scoring import ScoringLoop
from mmkd.registry import LOOPS
from mmkd.traces.schema import digest


def fixed_subset(data: CobraFrameDataset, count: int | None) -> list[int]:
    """Numbers of some frames: the same ones at all times, those of a statement together.

    Args:
        data: the frames.
        count: how many, one statement's may be cut; None: all.
    """
    rows = range(len(data))
    if count is None:
        return list(rows)
    rank = {each.statement_id: digest(each.statement_id) for each in data.frames}
    order = sorted(rows, key=lambda row: (rank[data.frames[row].statement_id], row))
    return sorted(order[:count])


@LOOPS.register_module()
class FrameLoop(ScoringLoop):
    """Writes the explanations of frames and scores them; ranks share the frames.

    The evaluator gets of each frame ``frame``, ``prediction`` (text by slot, ``''`` where there is
    none), ``format_ok`` (whether the template could read all of it) and ``text``. Scores have
    ``language/nll`` and ``language/perplexity`` too, of the targets' tokens of all frames that have
    an explanation.

    Args:
        runner: the runner; its model is a :class:`~mmkd.language.seq2seq_student.Seq2SeqStudent`,
            or a ``CausalStudent`` for data with ``decoder_only``.
        dataloader: of a :class:`~mmkd.cobra.students.dataset.CobraFrameDataset`; its ``batch_size``
            is that of a forward, its collate function is not used.
        evaluator: of metrics of frames.
        max_new_tokens: of an explanation.
        decoding: see :func:`mmkd.cobra.students.frame_texts.frame_texts`; None: greedy.
        subset: frames to write explanations for, see :func:`fixed_subset`; None: all.
        cache: see :func:`mmkd.cobra.students.frame_texts.frame_texts`.

    Raises:
        UserError: other data, fewer rows in the model than tokens in the tokenizer, or a subset
            below 1.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        evaluator: Any,
        max_new_tokens: int = 256,
        decoding: Mapping[str, Any] | None = None,
        subset: int | None = None,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__(runner, dataloader)
        self.evaluator = (
            evaluator if isinstance(evaluator, Evaluator) else runner.build_evaluator(evaluator)
        )
        data = self.dataloader.dataset
        if not isinstance(data, CobraFrameDataset):
            raise UserError(
                f'{type(self).__name__} scores frames, its data set must be CobraFrameDataset, got '
                f'{type(data).__name__}'
            )
        if subset is not None and subset < 1:
            raise UserError(f'subset must be at least 1 frame, got {subset}')
        self.rows = fixed_subset(data, subset)
        self.max_new_tokens, self.decoding, self.cache = max_new_tokens, decoding, cache

    def scores(self) -> dict[str, float]:
        """The evaluator's scores of what the model writes, and those of the references."""
        model, data = bare_model(self.runner), self.dataloader.dataset
        if len(data.tokenizer) > model.vocab_size:
            raise UserError(
                f'the tokenizer has {len(data.tokenizer)} tokens with those of the template, the '
                f'model {model.vocab_size}: give the model vocab_size={len(data.tokenizer)}'
            )
        batch = self.dataloader.batch_size
        texts = frame_texts(
            model, data, self.rows, batch, self.max_new_tokens, self.decoding, self.cache
        )
        rank, world = get_dist_info()
        samples = []
        for row, text in list(zip(self.rows, texts, strict=True))[rank::world]:
            report = data.template.parse(text, slots=data.slots)
            prediction = {name: report.values.get(name, '') for name in data.slots}
            samples.append(
                dict(frame=data.frames[row], prediction=prediction, format_ok=report.ok, text=text)
            )
        self.evaluator.process(samples)
        return {**self.evaluator.evaluate(len(self.rows)), **reference_scores(model, data, batch)}


@torch.no_grad()
def reference_scores(model: Any, data: CobraFrameDataset, batch: int = 16) -> dict[str, float]:
    """How well a model predicts the references, over the tokens of all frames that have one.

    Args:
        model: see :class:`FrameLoop`.
        data: the frames.
        batch: frames of a forward.

    Returns:
        ``language/nll`` in nats per token and ``language/perplexity``; empty where no frame has an
        explanation.
    """
    pad = data.tokenizer.pad_token_id or 0
    collate = padded_collate if data.decoder_only else seq2seq_collate
    count = len(data.slots)
    rows = [n for n, each in enumerate(data.frames) if len(each.missing(data.slots)) < count]
    rows.sort(key=lambda row: -data.lengths[row])
    rank, world = get_dist_info()
    own, total = rows[rank::world], torch.zeros(2, dtype=torch.float64)
    with evaluating(model):
        for begin in range(0, len(own), batch):
            samples = [data[row] for row in own[begin : begin + batch]]
            for found in model.val_step(collate(samples, pad_id=pad)):
                total += torch.stack([found['nll'], found['tokens']]).double().cpu()
    all_reduce(total)
    if not total[1]:
        return {}
    nll, tokens = float(total[0]), int(total[1])
    found = PerplexityMetric().compute_metrics([(nll, tokens)])
    return {f'{PerplexityMetric.default_prefix}/{key}': value for key, value in found.items()}


@LOOPS.register_module()
class FrameTestLoop(FrameLoop):
    """:class:`FrameLoop` as ``test_cfg``."""

    stage = 'test'
