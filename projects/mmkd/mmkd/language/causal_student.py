"""A causal language model that learns the answers of a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdistill.core.errors import UserError, options_of
from mmkd.language.attention import FLAT, packed_arguments
from mmkd.language.export import export
from mmkd.language.generation import generate
from mmkd.language.language_model import (
    base_model,
    chosen_attention,
    language_model,
    widen,
    with_adapters,
)
from mmkd.language.lm_loss import (
    IGNORED,
    kept_losses,
    next_labels,
    response_tokens,
    step_scale,
)
from mmkd.language.model_types import check_head, check_packing
from mmkd.registry import MODELS

MODES = ('loss', 'predict', 'tensor')
SOURCES = dict(config=None, pretrained=None)


@MODELS.register_module()
class CausalStudent(BaseModel):
    """Explanation tuning: the cross entropy of a teacher's answers (arXiv 2306.02707, section 4.1).

    Rows that only fill the vocabulary up to a multiple are cut off from all logits: loss,
    predictions and answers are those of a network without them, and exports have none.

    Args:
        language_model: ``dict(config=dict(model_type='llama', ...))`` for random weights,
            ``dict(pretrained=folder)``, or a network of Hugging Face.
        attention: see :func:`mmkd.language.language_model.language_model`.
        dtype: of the parameters, ``'bfloat16'`` say; None: ``'float32'``, and a network that is
            given keeps its own.
        lora: keys of :data:`mmkd.language.language_model.LORA`: adapters learn, the rest is
            frozen; None: everything learns.
        gradient_checkpointing: layers run again for the gradient instead of keeping their insides.
        block_diagonal: documents of a pack do not see each other, and each begins at position 0;
            False: they do, as one long text, which is how we read the paper, that says nothing.
        trust_model_type: see :func:`mmkd.language.model_types.check_packing`.
        vocab_size: ``len(tokenizer)``, where it has tokens that the network lacks.
        pad_vocab_to: multiple of the rows of embedding and head.
        chunk: tokens whose logits exist at a time, see :func:`mmkd.language.lm_loss.kept_losses`.
        data_preprocessor: see mmengine.

    Attributes:
        network: of Hugging Face, adapters around it where there are any.
        vocab_size: number of real tokens.
    """

    def __init__(
        self,
        language_model: Mapping[str, Any] | nn.Module,
        attention: str = 'auto',
        dtype: str | None = None,
        lora: Mapping[str, Any] | None = None,
        gradient_checkpointing: bool = False,
        block_diagonal: bool = True,
        trust_model_type: bool = False,
        vocab_size: int | None = None,
        pad_vocab_to: int = 64,
        chunk: int | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor)
        network = made(language_model, attention, dtype)
        check_head(network.config)
        if block_diagonal:
            check_packing(network, trust_model_type)
        self.vocab_size = widen(network, vocab_size, pad_vocab_to)
        if gradient_checkpointing:
            network.gradient_checkpointing_enable(dict(use_reentrant=False))
        self.network = network if lora is None else with_adapters(network, lora)
        self.block_diagonal, self.chunk = block_diagonal, chunk

    def init_weights(self) -> None:
        """Nothing: the network has its weights, and mmengine would draw adapters again."""

    # ------------------------------------------------------------------ parts of the network

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of the real tokens, ``(..., vocab_size)``."""
        return base_model(self.network).get_output_embeddings()(hidden)[..., : self.vocab_size]

    def hidden(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        doc_ids: Tensor | None = None,
        flat: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Outputs of the last layer, ``(B, L, H)``; without ``doc_ids`` a row is one text."""
        base = base_model(self.network)
        arguments: dict[str, Any] = dict(attention_mask=None)
        if self.block_diagonal and (doc_ids is None) != (position_ids is None):
            raise UserError(
                'a batch needs both doc_ids and position_ids, which restart, or neither'
            )
        if self.block_diagonal and doc_ids is not None:
            arguments = packed_arguments(base.config, doc_ids, base.dtype, flat)
        elif flat:
            raise UserError(
                'one text per row (block_diagonal=False): a flat batch does not say where packs '
                'end; use the padded collate'
            )
        else:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)
            position_ids = position_ids.expand(input_ids.shape)
        backbone = base.base_model
        out = backbone(input_ids=input_ids, position_ids=position_ids, use_cache=False, **arguments)
        return out.last_hidden_state

    # ------------------------------------------------------------------ mmengine

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        doc_ids: Tensor | None = None,
        global_tokens: int | Tensor | None = None,
        accumulate: int = 1,
        mode: str = 'tensor',
        **flat: Any,
    ) -> Any:
        """Losses, sums per row, or logits.

        Args:
            input_ids: ``(B, L)``.
            labels: ``(B, L)``, -100 where a token does not count.
            position_ids: ``(B, L)``, restarting per document.
            doc_ids: ``(B, L)``, -1 for padding.
            global_tokens: that count, in all batches of the step on all ranks; None: this batch is
                the whole step of its rank, and the ranks add up theirs.
            accumulate: batches of a rank in the step, by which the optimizer wrapper divides.
            mode: see below.
            **flat: ``cu_seq_lens_q``, ``cu_seq_lens_k``, ``max_length_q``, ``max_length_k`` of a
                batch whose packs lie end to end in one row.

        Returns:
            ``loss``: ``loss``, whose mean over the batches and ranks of a step is the mean over
            its tokens, and for the log ``nll`` (sum over the batch's tokens, nats) and ``tokens``
            (their number); ``predict``: per row a dict of ``nll`` and ``tokens`` likewise;
            ``tensor``: logits ``(B, L, vocab_size)``.

        Raises:
            NoResponseTokens: no token of the step counts.
            UserError: an unknown mode or key of the batch.
        """
        if mode not in MODES:
            raise UserError(f'mode must be one of {MODES}, got {mode!r}')
        lengths = options_of('batch', flat, dict.fromkeys(FLAT)) if flat else None
        hidden = self.hidden(input_ids, position_ids, doc_ids, lengths)
        if mode == 'tensor':
            return self.head(hidden)
        if labels is None:
            raise UserError(f'mode={mode!r}: the batch has no labels')
        targets = next_labels(labels, doc_ids)
        losses = kept_losses(hidden, targets, self.head, self.chunk)
        if mode == 'predict':
            return per_row(losses, targets != IGNORED)
        tokens, nll = response_tokens(labels, doc_ids), losses.sum()
        total = all_tokens(tokens) if global_tokens is None else int(global_tokens)
        scale = step_scale(total, get_world_size(), accumulate)
        return dict(loss=nll * scale, nll=nll.detach(), tokens=tokens.float())

    # ------------------------------------------------------------------ answers and files

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int = 256, **options: Any
    ) -> list[list[int]]:
        """Answers to prompts of tokens, see :func:`mmkd.language.generation.generate`."""
        return generate(self.network, prompts, max_new_tokens, self.vocab_size, **options)

    def save_pretrained(
        self, folder: str | Path, tokenizer: Any = None, merge: bool = True
    ) -> None:
        """Writes a folder that ``transformers`` reads, see :func:`mmkd.language.export.export`.

        Call it on one rank.
        """
        export(self.network, folder, self.vocab_size, tokenizer, merge)


def made(source: Mapping[str, Any] | nn.Module, attention: str, dtype: str | None) -> nn.Module:
    """The network of a config or a module, with the attention and type that are asked for."""
    if not isinstance(source, nn.Module):
        options = options_of('language_model', source, SOURCES)
        return language_model(**options, attention=attention, dtype=dtype or 'float32')
    network = source if dtype is None else source.to(getattr(torch, dtype))
    if attention != 'auto':
        network.set_attn_implementation(chosen_attention(attention, network.dtype))
    return network


def all_tokens(tokens: Tensor) -> int:
    """The sum of a count over the ranks."""
    total = tokens.clone()
    all_reduce(total)
    return int(total)


def per_row(losses: Tensor, kept: Tensor) -> list[dict[str, Tensor]]:
    """Sums of losses and numbers of tokens of each row.

    Args:
        losses: ``(N,)`` in the order of rows.
        kept: ``(B, L)``, N of which are true.
    """
    counts = kept.sum(1)
    parts = losses.split(counts.tolist())
    return [dict(nll=part.sum(), tokens=count) for part, count in zip(parts, counts, strict=True)]
