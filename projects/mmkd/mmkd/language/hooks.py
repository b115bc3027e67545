"""What a training of a language model logs and writes beside its checkpoints."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model, require
from mmkd.datasets.tokenizers import tokenizer_of
from mmkd.registry import HOOKS


def packing_of(batches: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What packs are made of.

    Args:
        batches: with ``doc_ids`` and ``labels`` ``(B, L)``.

    Returns:
        ``fill``, share of places that are no padding; ``documents`` per row; ``responses``, share
        of real tokens that are learned from.
    """
    places = sum(each['doc_ids'].numel() for each in batches)
    rows = sum(len(each['doc_ids']) for each in batches)
    tokens = sum(int((each['doc_ids'] >= 0).sum()) for each in batches)
    learned = sum(int((each['labels'] != -100).sum()) for each in batches)
    documents = 0
    for each in batches:
        ids = each['doc_ids']
        changed = (ids[:, 1:] != ids[:, :-1]) & (ids[:, 1:] >= 0)
        documents += int(changed.sum()) + int((ids[:, :1] >= 0).sum())
    return dict(
        fill=tokens / places,
        documents=documents / rows,
        responses=learned / max(tokens, 1),
    )


@HOOKS.register_module()
class PackStatisticsHook(Hook):
    """Logs the stage, what its packs are made of, and real tokens per second.

    Scalars ``stage``, ``pack/fill``, ``pack/documents``, ``pack/responses`` and
    ``tokens_per_second`` (all ranks, if they are as fast as this one).

    Args:
        interval: iterations between looks.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, interval: int = 10) -> None:
        if interval < 1:
            raise UserError(f'interval must be at least 1 iteration, got {interval}')
        self.interval = interval
        self._since: float | None = None
        self._tokens = 0.0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Counts, and logs now and then."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        else:
            self._tokens += sum(int((each['doc_ids'] >= 0).sum()) for each in data_batch)
        if not self.every_n_train_iters(runner, self.interval):
            return
        hub = runner.message_hub
        for name, value in packing_of(data_batch).items():
            hub.update_scalar(f'train/pack/{name}', value)
        hub.update_scalar('train/stage', getattr(runner.train_loop, 'stage', 0))
        if now > self._since:
            speed = self._tokens * get_world_size() / (now - self._since)
            hub.update_scalar('train/tokens_per_second', speed)
        self._since, self._tokens = now, 0.0


@HOOKS.register_module()
class PretrainedExportHook(Hook):
    """Writes ``WORK_DIR/hf``, a folder that ``transformers`` reads, when the training ends.

    Args:
        tokenizer: folder or config of the tokenizer that is saved beside the model; None: none.
        merge: adapters are added to the weights; else they alone are saved.
        folder: name within the work dir.
    """

    priority = 'LOW'

    def __init__(
        self,
        tokenizer: str | Mapping[str, Any] | None = None,
        merge: bool = True,
        folder: str = 'hf',
    ) -> None:
        self.tokenizer, self.merge, self.folder = tokenizer, merge, folder

    def after_train(self, runner: Runner) -> None:
        """Writes the export on one rank."""
        require(runner, self, 'save_pretrained')
        if get_rank():
            return
        tokenizer = None if self.tokenizer is None else tokenizer_of(self.tokenizer)
        folder = Path(runner.work_dir, self.folder)
        bare_model(runner).save_pretrained(folder, tokenizer, merge=self.merge)
        runner.logger.info(f'model for transformers: {folder}')
