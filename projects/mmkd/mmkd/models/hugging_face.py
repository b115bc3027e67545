"""Classifiers of Hugging Face, made from a config or read from a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill.core.compat import safe_load
from mmdistill.core.errors import UserError, did_you_mean
from mmkd.datasets.label_order import label_order
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
    data_labels: Sequence[str] | None = None,
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
        data_labels: names of the classes in the order of the data, to which outputs with other
            names or another order are brought once and for all, see :func:`reorder_classes`; None
            takes the outputs as they are.
        checkpoint: of a training here, whose network (or student) gives the weights; it was
            trained with the same ``data_labels``, so its outputs have the order of the data.

    Returns:
        The network itself, keys as in its own checkpoints.

    Raises:
        UserError: an unknown task, family or setting, a folder without a network, or classes that
            are not those of the data.
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
    if data_labels is not None:
        reorder_classes(network, data_labels)
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


def reorder_classes(network: nn.Module, data_labels: Sequence[str]) -> None:
    """Brings the outputs of a network into the order of the data, in place.

    The rows of its last layer change places and its config names the classes as the data does, so
    that logits, checkpoints and folders of ``save_pretrained`` have one order. Networks without
    names of their own (``LABEL_0`` ...) get the names alone.

    Args:
        network: of Hugging Face, with a head for classes.
        data_labels: names of the classes in the order of the data; capitals do not count.

    Raises:
        UserError: other classes, see :func:`mmkd.datasets.label_order.label_order`, or a head
            without a linear layer of as many outputs.
    """
    names = list(map(str, data_labels))
    order = label_order(network.config.label2id, names)
    if order != sorted(order):
        with torch.no_grad():
            for layer in _last_layers(network, len(names)):
                for each in layer.parameters():
                    each.copy_(each[order])
    network.config.id2label = dict(enumerate(names))
    network.config.label2id = {name: number for number, name in enumerate(names)}


def _last_layers(network: nn.Module, outputs: int) -> list[nn.Linear]:
    """The linear layers that make the logits: the last one of each part beside the encoder."""
    found = []
    for name, part in network.named_children():
        if name == network.base_model_prefix:
            continue
        linear = [each for each in part.modules() if isinstance(each, nn.Linear)]
        found += [each for each in linear[-1:] if each.out_features == outputs]
    if not found:
        raise UserError(
            f'data_labels: {type(network).__name__} has no linear layer of {outputs} outputs '
            'behind its encoder, so its classes cannot change places; give the data its order'
        )
    return found


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
