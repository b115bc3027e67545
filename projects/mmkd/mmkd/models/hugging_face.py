"""Classifiers of Hugging Face, made from a config or read from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmdistill.core.compat import safe_load
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
    checkpoint: str | None = None,
) -> nn.Module:
    """A network of Hugging Face with a head for classes (or one value, with one label).

    Args:
        task: ``'text'`` or ``'image'``.
        family: of a network with random weights, ``'bert'`` or ``'vit'``, say.
        config: its settings.
        pretrained: folder of ``save_pretrained``, or a name on the hub, instead of both.
        num_labels: outputs of the head.
        labels: names of the classes in the order of the outputs, instead of ``num_labels``.
        checkpoint: of a training here, whose network (or student) gives the weights.

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
    network = _made(transformers, auto, family, config, pretrained, head)
    if checkpoint is not None:
        network.load_state_dict(trained_weights(checkpoint, network))
    return network


def _made(
    transformers: Any,
    auto: Any,
    family: str,
    config: Mapping[str, Any] | None,
    pretrained: str | None,
    head: Mapping[str, Any],
) -> nn.Module:
    """A network that is read, or one with random weights."""
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


def trained_weights(path: str, network: nn.Module) -> dict[str, Tensor]:
    """The weights of a network in a checkpoint of a training here.

    Args:
        path: of the checkpoint.
        network: that they must fit.

    Raises:
        UserError: the checkpoint is missing or has another network.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: there is no such checkpoint; train the teacher first')
    content = safe_load(path)
    state, wanted = content.get('state_dict', content), network.state_dict()
    for prefix in ('network.', 'student.', ''):
        found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if found.keys() == wanted.keys():
            shapes = [name for name in wanted if found[name].shape != wanted[name].shape]
            if shapes:
                raise UserError(
                    f'{path}: {shapes[0]} has shape {tuple(found[shapes[0]].shape)}, the network '
                    f'needs {tuple(wanted[shapes[0]].shape)}: use the config it was trained with'
                )
            return found
    raise UserError(
        f'{path}: its weights are not those of a {type(network).__name__} of this config'
    )
