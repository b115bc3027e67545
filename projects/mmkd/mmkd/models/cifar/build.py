"""Networks for small images by the names that the literature on distillation gives them."""

from __future__ import annotations

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.models.cifar.mobilenet_v2 import MOBILENETS
from mmkd.models.cifar.resnet import RESNETS
from mmkd.models.cifar.shufflenet_v1 import SHUFFLENETS_V1
from mmkd.models.cifar.shufflenet_v2 import SHUFFLENETS_V2
from mmkd.models.cifar.staged import StagedNetwork
from mmkd.models.cifar.vgg import VGGS
from mmkd.models.cifar.wide_resnet import WIDE_RESNETS
from mmkd.models.hugging_face import trained_weights
from mmkd.registry import MODELS

NETWORKS = {**RESNETS, **WIDE_RESNETS, **VGGS, **MOBILENETS, **SHUFFLENETS_V1, **SHUFFLENETS_V2}
"""All makers of networks from classes and channels, by name."""


@MODELS.register_module(name='CifarNet')
def cifar_net(
    name: str, num_classes: int, in_channels: int = 3, checkpoint: str | None = None
) -> StagedNetwork:
    """A network for images of about 32 x 32 pixels, as CRD (arXiv:1910.10699) defines them.

    Its modules are ``stem``, ``stage1`` ... ``stageN``, ``pool`` and ``head``, whatever the family;
    MobileNetV2 and ShuffleNetV2 have ``last`` before the pool.

    Args:
        name: ``'resnet56'``, ``'wrn_40_2'``, ``'vgg13'``, ``'MobileNetV2'`` ...
        num_classes: outputs of the head.
        in_channels: of the images.
        checkpoint: of a training here, whose network (or student) gives the weights; without it
            they are random.

    Returns:
        The network, called with ``pixel_values``.

    Raises:
        UserError: an unknown name, or a checkpoint that does not fit.
    """
    if name not in NETWORKS:
        hint = did_you_mean(name, NETWORKS) or f'; there are {", ".join(NETWORKS)}'
        raise UserError(f'name {name!r} is no network of CifarNet{hint}')
    network = NETWORKS[name](num_classes, in_channels)
    if checkpoint is not None:
        network.load_state_dict(trained_weights(checkpoint, network))
    return network
