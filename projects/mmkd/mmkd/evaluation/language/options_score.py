"""How likely a language model finds the options of a question."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmdistill.core.modes import evaluating
from mmkd.language.language_model import base_model
from mmkd.language.templates import Template, template_of
from mmkd.language.tokenize import PromptEncoder
from mmkd.traces.schema import Query

Mean = Literal['token', 'byte'] | None
"""What log-likelihoods are divided by: number of tokens, of UTF-8 bytes, or nothing."""
Asked = tuple[tuple[int, ...], tuple[int, ...]]
"""Tokens of a prompt and of an option."""


def score_options(
    model: nn.Module,
    tokenizer: Any,
    queries: Sequence[Query],
    options: Sequence[Sequence[str]],
    template: str | Mapping[str, Any] | Template = 'plain',
    mean: Mean = None,
    batch: int = 8,
) -> list[list[float]]:
    """Log-likelihood of every option as the begin of an answer, in nats.

    Question and option become tokens apart from each other, as question and answer do in a
    training, so that all options follow the same tokens.

    Args:
        model: causal language model of Hugging Face.
        tokenizer: of Hugging Face.
        queries: Q questions.
        options: texts of each.
        template: see :func:`mmkd.language.templates.template_of`.
        mean: divides by the number of tokens or bytes; None: the sum.
        batch: rows of a forward.

    Returns:
        Q lists, a number for each option.

    Raises:
        UserError: another ``mean``, an option without a token, or a question that is too long.
    """
    if mean not in (None, 'token', 'byte'):
        raise UserError(f"mean of option scores must be 'token', 'byte' or None, got {mean!r}")
    encode = PromptEncoder(tokenizer, template_of(template))
    prompts = encode((query.system_text, query.user_text) for query in queries)
    ids = [encode.texts(texts) for texts in options]
    sums = option_sums(model, prompts, ids, batch, len(tokenizer))
    if mean is None:
        return sums
    sizes = ids if mean == 'token' else [[text.encode() for text in texts] for texts in options]
    return [
        [value / len(size) for value, size in zip(*row, strict=True)]
        for row in zip(sums, sizes, strict=True)
    ]


def option_sums(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    options: Sequence[Sequence[Sequence[int]]],
    batch: int = 8,
    vocab_size: int | None = None,
) -> list[list[float]]:
    """Sums of log-probabilities of options behind their prompts, in nats.

    Rows are padded on the right, where a causal model does not look. What begins another row is
    not computed: options of one token cost one row for all of them.

    Args:
        model: causal language model of Hugging Face; its modes are as before afterwards.
        prompts: numbers of tokens of Q questions.
        options: numbers of tokens of every option of each.
        batch: rows of a forward.
        vocab_size: probabilities are over the tokens below it; None: over all rows of the head.

    Raises:
        UserError: a prompt or an option without a token, or a question that is too long.
    """
    asked = [
        (tuple(prompt), tuple(option))
        for prompt, choices in zip(prompts, options, strict=True)
        for option in choices
    ]
    _check(model, asked)
    found = torch.zeros(len(asked), dtype=torch.float64)
    with evaluating(model), torch.no_grad():
        rows = sorted(_rows(asked).items(), key=lambda row: (-len(row[0]), row[0]))
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            owners = [number for _, numbers in some for number in numbers]
            places = [row for row, (_, numbers) in enumerate(some) for _ in numbers]
            tokens = [row for row, _ in some]
            found[owners] = _sums(model, tokens, places, [asked[n] for n in owners], vocab_size)
    values = iter(found.tolist())
    return [[next(values) for _ in choices] for choices in options]


def _check(model: nn.Module, asked: Sequence[Asked]) -> None:
    """Refuses what cannot be scored."""
    limit = getattr(base_model(model).config, 'max_position_embeddings', None)
    for prompt, option in asked:
        if not prompt or not option:
            raise UserError(
                f'option scores: {"an option" if prompt else "a prompt"} has no token; begin a '
                'prompt with the BOS token, and give every option a text'
            )
        if limit and len(prompt) + len(option) - 1 > limit:
            raise UserError(
                f'option scores: a prompt of {len(prompt)} tokens with an option of {len(option)} '
                f'is longer than the model reads, {limit}; leave the question out'
            )


def _rows(
    asked: Sequence[Asked],
) -> dict[tuple[int, ...], list[int]]:
    """Tokens that must be read, none of them the begin of others, with the options they serve."""
    needed: dict[tuple[int, ...], list[int]] = {}
    for number, (prompt, option) in enumerate(asked):
        needed.setdefault(prompt + option[:-1], []).append(number)
    kept: dict[tuple[int, ...], list[int]] = {}
    longer: tuple[int, ...] = ()
    for row in sorted(needed, reverse=True):  # what begins a row comes right after it
        if not longer or longer[: len(row)] != row:
            longer = row
        kept.setdefault(longer, []).extend(needed[row])
    return kept


def _sums(
    model: nn.Module,
    tokens: Sequence[tuple[int, ...]],
    places: Sequence[int],
    asked: Sequence[Asked],
    vocab_size: int | None,
) -> Tensor:
    """Sums of one forward: of the option that row ``places[n]`` serves, ``(N,)`` float64."""
    width = max(map(len, tokens))
    ids = torch.zeros(len(tokens), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(tokens):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    first = min(len(prompt) for prompt, _ in asked) - 1
    base = base_model(model)
    partly = 'logits_to_keep' in inspect.signature(base.forward).parameters
    extra = dict(logits_to_keep=width - first) if partly else {}
    device = base.get_input_embeddings().weight.device
    logits = model(
        input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False, **extra
    ).logits[..., :vocab_size]
    index = [
        (owner, places[owner], len(prompt) - 1 + step - first * partly, token)
        for owner, (prompt, option) in enumerate(asked)
        for step, token in enumerate(option)
    ]
    owners, rows, steps, wanted = torch.tensor(index, device=logits.device).T
    chosen = logits[rows, steps].float()
    values = chosen.gather(1, wanted[:, None])[:, 0] - chosen.logsumexp(1)
    return torch.zeros(len(asked), dtype=torch.float64).index_add_(
        0, owners.cpu(), values.double().cpu()
    )
