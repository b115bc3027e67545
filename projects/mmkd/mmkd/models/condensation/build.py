"""Networks by the names that the literature on dataset condensation gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mmdistill.core.errors import UserError, did_you_mean, options_of
from mmkd.models.condensation.alexnet import alexnet
from mmkd.models.condensation.convnet import convnet
from mmkd.models.condensation.layers import CondensationNetwork, Layers
from mmkd.models.condensation.lenet import lenet
from mmkd.models.condensation.mlp import mlp
from mmkd.models.condensation.resnet import resnet18
from mmkd.models.condensation.vgg import vgg11
from mmkd.models.hugging_face import trained_weights
from mmkd.registry import MODELS

NETWORKS: dict[str, tuple[Callable[..., CondensationNetwork], Mapping[str, Any]]] = {
    'ConvNet': (convnet, dict(width=128, depth=None, norm='instance')),
    'ConvNetBN': (partial(convnet, norm='batch'), dict(width=128, depth=None)),
    'AlexNet': (alexnet, {}),
    'VGG11': (vgg11, dict(norm='instance')),
    'VGG11BN': (partial(vgg11, norm='batch'), {}),
    'ResNet18': (resnet18, dict(norm='instance')),
    'ResNet18BN': (partial(resnet18, norm='batch'), {}),
    'LeNet': (lenet, {}),
    'MLP': (mlp, dict(width=128)),
}
"""Makers of networks from layers and classes, and their options with defaults, by name."""


def _sides(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width."""
    given = tuple(image_size) if isinstance(image_size, Sequence) else (image_size,) * 2
    if len(given) != 2 or not all(isinstance(side, int) and side > 0 for side in given):
        raise UserError(
            f'image_size must be a side in pixels or (height, width), got {image_size!r}'
        )
    return given


@MODELS.register_module(name='CondensationNet')
def condensation_net(
    name: str,
    num_classes: int,
    image_size: int | Sequence[int] = 32,
    in_channels: int = 3,
    checkpoint: str | None = None,
    **options: Any,
) -> CondensationNetwork:
    """A network for small images of one size, as DC (arXiv:2006.05929) and MTT have it.

    Names with ``BN`` have batch normalisation; ``ConvNet``, ``VGG11`` and ``ResNet18`` have
    instance normalisation, so that samples of a batch do not see each other.

    Args:
        name: ``'ConvNet'``, ``'ConvNetBN'``, ``'AlexNet'``, ``'VGG11'`` ...
        num_classes: outputs of the head.
        image_size: side of the images in pixels, or height and width.
        in_channels: of the images.
        checkpoint: of a training here, whose network (or student) gives the weights; without it
            they are random.
        **options: ``width`` of ConvNet, ConvNetBN and MLP; ``depth`` of ConvNet and ConvNetBN;
            ``norm`` of ConvNet, VGG11 and ResNet18: 'batch', 'instance', 'group', 'layer' or
            'none'.

    Returns:
        The network, called with ``pixel_values``.

    Raises:
        UserError: an unknown name or option, a number that is none, an image that is too small, or
            a checkpoint that does not fit.
    """
    if name not in NETWORKS:
        hint = did_you_mean(name, NETWORKS) or f'; there are {", ".join(NETWORKS)}'
        raise UserError(f'name {name!r} is no network of CondensationNet{hint}')
    make, defaults = NETWORKS[name]
    chosen = options_of(f'CondensationNet {name!r}', options, defaults)
    counts = dict(num_classes=num_classes, in_channels=in_channels, **chosen)
    for key, value in counts.items():
        if key == 'norm' or (key == 'depth' and value is None):
            continue
        if not isinstance(value, int) or value < 1:
            raise UserError(f'{key} of {name} must be a whole number from 1 on, got {value!r}')
    network = make(Layers(name, in_channels, _sides(image_size)), num_classes, **chosen)
    if checkpoint is not None:
        network.load_state_dict(trained_weights(checkpoint, network))
    return network
