"""Classifiers of Hugging Face, made from a config or read from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.registry import MODELS

AUTO = dict(text='AutoModelForSequenceClassification', image='AutoModelForImageClassification')


@MODELS.register_module(name='HFClassifier')
def hf_classifier(
    task: str,
    family: str = '',
    config: Mapping[str, Any] | None = None,
    pretrained: str | None = None,
    num_labels: int | None = None,
    labels: list[str] | None = None,
) -> nn.Module:
    """A network of Hugging Face with a head for classes (or one value, with one label).

    Args:
        task: ``'text'`` or ``'image'``.
        family: of a network with random weights, ``'bert'`` or ``'vit'``, say.
        config: its settings.
        pretrained: folder of ``save_pretrained``, or a name on the hub, instead of both.
        num_labels: outputs of the head.
        labels: names of the classes in the order of the outputs, instead of ``num_labels``.

    Returns:
        The network itself, keys as in its own checkpoints.

    Raises:
        UserError: an unknown task, family or setting, or a folder without a network.
    """
    import transformers

    if task not in AUTO:
        raise UserError(f'task must be one of {sorted(AUTO)}, got {task!r}')
    if (pretrained is None) == (not family):
        raise UserError('give either pretrained, or family with its config')
    head: dict[str, Any] = {} if num_labels is None else dict(num_labels=num_labels)
    if labels is not None:
        head = dict(id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)})
    auto = getattr(transformers, AUTO[task])
    if pretrained is not None:
        if Path(pretrained).is_dir() and not Path(pretrained, 'config.json').is_file():
            raise UserError(f'{pretrained}: there is no config.json; save_pretrained writes one')
        try:
            return auto.from_pretrained(pretrained, **head)
        except OSError as error:
            raise UserError(f'{pretrained}: no network can be read: {error}') from error
    if family not in transformers.CONFIG_MAPPING:
        known = transformers.CONFIG_MAPPING.keys()
        raise UserError(f'family {family!r} is not known{did_you_mean(family, known)}')
    settings = transformers.CONFIG_MAPPING[family]
    default = settings().to_dict()
    for key in config or {}:
        if key not in default:
            raise UserError(f'config: {family} has no key {key!r}{did_you_mean(key, default)}')
    return auto.from_config(settings(**{**(config or {}), **head}))
