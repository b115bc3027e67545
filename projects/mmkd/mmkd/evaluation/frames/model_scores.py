"""BERTScore and MAUVE, by their optional libraries and models on disk."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from mmdistill.core.errors import UserError

MIN_SEEDS = 5
MIN_ROWS = 1000


@dataclass(frozen=True)
class Mauve:
    """MAUVE by several k-means seeds.

    Attributes:
        mean: over seeds.
        sd: standard deviation over seeds, of the sample.
        values: one per seed.
    """

    mean: float
    sd: float
    values: tuple[float, ...]


def bert_score_f1(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    model: str | Path,
    layer: int,
    batch_size: int = 32,
    device: str = 'cpu',
) -> np.ndarray:
    """BERTScore's F1 of each row ``(N,)`` (arXiv 1904.09675), without rescaling.

    Args:
        predictions: N texts.
        references: one or several of each, of which the best counts.
        model: folder of an encoder with its tokenizer.
        layer: whose hidden states are compared, from 1.
        batch_size: texts at a time.
        device: of the encoder.

    Raises:
        UserError: no such folder, or the library ``bert-score`` is not there.
    """
    library = _library('bert_score', 'bert-score', 'BERTScore')
    _, _, found = library.score(
        list(predictions),
        list(references),
        model_type=_folder(model),
        num_layers=layer,
        batch_size=batch_size,
        device=device,
    )
    return np.asarray(found, dtype=np.float64)


def mauve_score(
    predicted: np.ndarray,
    reference: np.ndarray,
    seeds: Sequence[int] = tuple(range(MIN_SEEDS)),
    min_rows: int = MIN_ROWS,
) -> Mauve:
    """MAUVE of two sets of features (arXiv 2102.01454); it varies with the seed of k-means.

    Args:
        predicted: features of predictions ``(N, D)``, of :func:`last_token_features` for example.
        reference: features of references ``(M, D)``.
        seeds: of k-means, five different ones or more.
        min_rows: of either set; with fewer, or with texts of few words, it means little.

    Raises:
        UserError: too few rows or seeds, features that do not fit together, or the library
            ``mauve-text`` is not there.
    """
    if predicted.ndim != 2 or reference.ndim != 2 or predicted.shape[1] != reference.shape[1]:
        raise UserError(
            f'MAUVE: features must be (rows, size) of one size, got {predicted.shape} and '
            f'{reference.shape}'
        )
    if min(len(predicted), len(reference)) < min_rows:
        raise UserError(
            f'MAUVE of {len(predicted)} predictions and {len(reference)} references is refused: '
            f'it needs {min_rows} of both'
        )
    if len(set(seeds)) < MIN_SEEDS or len(set(seeds)) < len(seeds):
        raise UserError(f'MAUVE: seeds must be {MIN_SEEDS} different ones or more, got {seeds}')
    library = _library('mauve', 'mauve-text', 'MAUVE')
    values = [
        float(
            library.compute_mauve(
                p_features=predicted, q_features=reference, seed=seed, verbose=False
            ).mauve
        )
        for seed in seeds
    ]
    return Mauve(float(np.mean(values)), float(np.std(values, ddof=1)), tuple(values))


def last_token_features(
    texts: Sequence[str],
    model: str | Path,
    max_tokens: int = 256,
    batch_size: int = 32,
    device: str = 'cpu',
) -> np.ndarray:
    """Hidden states of a causal language model at the last token of each text ``(N, D)``.

    Args:
        texts: N texts; blank ones stand for the end of text.
        model: folder of the language model with its tokenizer.
        max_tokens: of a text; further ones are not read.
        batch_size: texts at a time.
        device: of the language model.

    Raises:
        UserError: no such folder.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = _folder(model)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    net = AutoModel.from_pretrained(folder, local_files_only=True).to(device).eval()
    rows = [
        tokenizer(text, truncation=True, max_length=max_tokens)['input_ids']
        or [tokenizer.eos_token_id]
        for text in texts
    ]
    features = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        lengths = torch.tensor([len(row) for row in batch], device=device)
        longest = int(lengths.max())
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in batch], device=device)
        mask = torch.arange(longest, device=device) < lengths[:, None]
        with torch.inference_mode():
            states = net(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        features.append(states[torch.arange(len(batch)), lengths - 1].float().cpu().numpy())
    return np.concatenate(features)


def _folder(model: str | Path) -> str:
    """The folder, which must be there: nothing is downloaded."""
    if not Path(model).is_dir():
        raise UserError(f'{model}: there is no such folder; give that of a model on disk')
    return str(model)


def _library(module: str, package: str, what: str) -> ModuleType:
    """An optional library."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(f'{what} needs a missing library: pip install {package}') from None
