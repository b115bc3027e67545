"""An encoder with a decoder, T5 say, that learns the texts of a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdistill.core.errors import UserError, options_of
from mmkd.language.causal_student import MODES, SOURCES, per_row
from mmkd.language.export import export
from mmkd.language.generation import generate
from mmkd.language.language_model import language_model, widen, with_adapters
from mmkd.language.lm_loss import IGNORED, NoResponseTokens, step_scale, token_losses
from mmkd.registry import MODELS

OVERFLOW = (
    'float16 is refused: feed-forward layers of T5 exceed its largest number, 65504, and the loss '
    "becomes NaN; use 'bfloat16' or 'float32'"
)


@MODELS.register_module()
class Seq2SeqStudent(BaseModel):
    """Cross entropy of target texts given source texts, as CHARM is trained (arXiv 2306.01985).

    Args:
        language_model: ``dict(config=dict(model_type='t5', ...))`` for random weights,
            ``dict(pretrained=folder)``, or a network of Hugging Face.
        attention: see :func:`mmkd.language.language_model.language_model`.
        dtype: of the parameters, ``'float32'`` or ``'bfloat16'``; None: ``'float32'``, and a
            network that is given keeps its own.
        lora: keys of :data:`mmkd.language.language_model.LORA`: adapters learn, the rest is
            frozen; None: everything learns.
        label_smoothing: share of a target that is spread evenly over the vocabulary, in [0, 1).
        gradient_checkpointing: layers run again for the gradient instead of keeping their insides.
        vocab_size: ``len(tokenizer)``, where it has tokens that the network lacks.
        pad_vocab_to: multiple of the rows of embedding and head; the additional ones are cut off
            from all logits.
        data_preprocessor: see mmengine.

    Attributes:
        network: of Hugging Face, adapters around it where there are any.
        vocab_size: number of real tokens.
        start_id: token that the decoder begins with.

    Raises:
        UserError: float16, a smoothing out of range, a network without an encoder or without a
            token to begin with.
    """

    def __init__(
        self,
        language_model: Mapping[str, Any] | nn.Module,
        attention: str = 'auto',
        dtype: str | None = None,
        lora: Mapping[str, Any] | None = None,
        label_smoothing: float = 0.0,
        gradient_checkpointing: bool = False,
        vocab_size: int | None = None,
        pad_vocab_to: int = 64,
        data_preprocessor: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor)
        if not 0 <= label_smoothing < 1:
            raise UserError(f'label_smoothing must be in [0, 1), got {label_smoothing}')
        network = made(language_model, attention, dtype)
        self.start_id = decoder_start(network)
        self.pad_id = network.config.pad_token_id or 0
        self.vocab_size = widen(network, vocab_size, pad_vocab_to)
        if gradient_checkpointing:
            network.gradient_checkpointing_enable(dict(use_reentrant=False))
        self.network = network if lora is None else with_adapters(network, lora)
        self.label_smoothing = label_smoothing

    def init_weights(self) -> None:
        """Nothing: the network has its weights, and mmengine would draw adapters again."""

    # ------------------------------------------------------------------ mmengine

    def logits(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """Logits ``(B, T, vocab_size)`` of the labels' places, each given the labels before it."""
        kind = input_ids.device.type
        if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16:
            raise UserError(OVERFLOW)
        given = shifted(labels, self.start_id, self.pad_id)
        out = self.network(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=given,
            use_cache=False,
        )
        return out.logits[..., : self.vocab_size]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
        global_tokens: float | Tensor | None = None,
        accumulate: int = 1,
        mode: str = 'tensor',
    ) -> Any:
        """Losses, sums per row, or logits.

        Args:
            input_ids: ``(B, S)`` sources.
            attention_mask: ``(B, S)``, 0 for padding.
            labels: ``(B, T)`` targets with their end, -100 for padding.
            weights: ``(B, T)`` of the targets in the loss; None: 1 each.
            global_tokens: sum of the weights in all batches of the step on all ranks; None: this
                batch is the whole step of its rank, and the ranks add up theirs.
            accumulate: batches of a rank in the step, by which the optimizer wrapper divides.
            mode: see below.

        Returns:
            ``loss``: ``loss``, whose mean over the batches and ranks of a step is the weighted mean
            over its targets, and for the log ``nll`` (sum over the batch's targets, nats; neither
            weighted nor smoothed) and ``tokens`` (their number); ``predict``: per row a dict of
            ``nll`` and ``tokens`` likewise; ``tensor``: logits ``(B, T, vocab_size)``.

        Raises:
            NoResponseTokens: no target of the step counts.
            UserError: an unknown mode, or float16.
        """
        if mode not in MODES:
            raise UserError(f'mode must be one of {MODES}, got {mode!r}')
        logits = self.logits(input_ids, attention_mask, labels)
        if mode == 'tensor':
            return logits
        kept = labels != IGNORED
        picked = logits[kept]
        nll = token_losses(picked, labels[kept])
        if mode == 'predict':
            return per_row(nll, kept)
        losses = self._smoothed(nll, picked)
        if weights is not None:
            losses = losses * weights[kept]
        total = step_weight(labels, weights) if global_tokens is None else float(global_tokens)
        if total <= 0:
            raise NoResponseTokens(
                'no target of this step counts: all are empty, or their weights are 0'
            )
        scale = step_scale(1, get_world_size(), accumulate) / total
        tokens = kept.sum().float()
        return dict(loss=losses.sum() * scale, nll=nll.detach().sum(), tokens=tokens)

    def _smoothed(self, nll: Tensor, logits: Tensor) -> Tensor:
        """Cross entropies ``(N,)`` with smoothed targets."""
        share = self.label_smoothing
        if not share:
            return nll
        logits = logits.to(nll.dtype)
        even = logits.logsumexp(-1) - logits.mean(-1)
        return (1 - share) * nll + share * even

    # ------------------------------------------------------------------ answers and files

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int = 256, **options: Any
    ) -> list[list[int]]:
        """Targets of sources of tokens, see :func:`mmkd.language.generation.generate`."""
        return generate(self.network, prompts, max_new_tokens, self.vocab_size, **options)

    def save_pretrained(
        self, folder: str | Path, tokenizer: Any = None, merge: bool = True
    ) -> None:
        """Writes a folder that ``transformers`` reads, see :func:`mmkd.language.export.export`.

        Call it on one rank.
        """
        export(self.network, folder, self.vocab_size, tokenizer, merge)


def made(source: Mapping[str, Any] | nn.Module, attention: str, dtype: str | None) -> nn.Module:
    """The network of a config or a module, with the attention and type that are asked for.

    Raises:
        UserError: float16, or no encoder with a decoder.
    """
    if dtype in ('float16', 'half'):
        raise UserError(OVERFLOW)
    if not isinstance(source, nn.Module):
        options = options_of('language_model', source, SOURCES)
        return language_model(
            **options, attention=attention, dtype=dtype or 'float32', seq2seq=True
        )
    network = source if dtype is None else source.to(getattr(torch, dtype))
    if network.dtype == torch.float16:
        raise UserError(OVERFLOW)
    if attention != 'auto':
        network.set_attn_implementation(attention)
    return network


def decoder_start(network: nn.Module) -> int:
    """The token that a decoder begins with; T5 without one gets its padding, as it was trained.

    Raises:
        UserError: there is none.
    """
    config, own = network.config, network.generation_config
    start = getattr(config, 'decoder_start_token_id', None)
    if start is None:
        start = own.decoder_start_token_id
    if start is None and 't5' in config.model_type:
        start = config.pad_token_id
    if start is None:
        raise UserError(
            f'{config.model_type}: its config has no decoder_start_token_id; set it, to the '
            'language code of a multilingual model say'
        )
    config.decoder_start_token_id = own.decoder_start_token_id = start
    return start


def shifted(labels: Tensor, start_id: int, pad_id: int) -> Tensor:
    """What the decoder reads: the labels ``(B, T)`` one place later, behind the token of start."""
    given = labels.masked_fill(labels == IGNORED, pad_id)
    return F.pad(given[:, :-1], (1, 0), value=start_id)


def step_weight(labels: Tensor, weights: Tensor | None = None) -> float:
    """The sum of the weights ``(B, T)`` of targets, over all ranks."""
    kept = labels != IGNORED
    total = (kept if weights is None else weights[kept]).sum().double()
    all_reduce(total)
    return float(total)
