"""Classifiers of timm, made from a name and its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.models.hugging_face import trained_weights
from mmkd.registry import MODELS

OWN = ('pretrained', 'num_classes')


@dataclass
class Classified:
    """What a pass gives.

    Attributes:
        logits: ``(B, C)``.
    """

    logits: Tensor


class TimmNetwork(nn.Module):
    """A network of timm that is called, and answers, as those of Hugging Face do.

    Args:
        model: of timm; in a checkpoint its keys start with ``model.``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Classified:
        """Logits of images ``(B, 3, H, W)``."""
        return Classified(self.model(pixel_values))


@MODELS.register_module(name='TimmClassifier')
def timm_classifier(
    name: str,
    num_classes: int,
    options: Mapping[str, Any] | None = None,
    checkpoint: str | None = None,
) -> TimmNetwork:
    """A network of timm with a head for classes (or one value, with one class).

    Nothing is downloaded: weights are random, or those of a file.

    Args:
        name: that timm knows, ``'vit_small_patch16_224'`` say.
        num_classes: outputs of the head.
        options: of ``timm.create_model``: ``img_size``, ``depth`` and others of the architecture;
            ``checkpoint_path`` reads a file with timm's own keys.
        checkpoint: of a training here, whose network (or student) gives the weights.

    Returns:
        The network, called with ``pixel_values``.

    Raises:
        UserError: an unknown name or option, or a checkpoint that does not fit.
    """
    import timm

    if not timm.is_model(name):
        known = timm.list_models()
        raise UserError(f'name {name!r} is no model of timm{did_you_mean(name, known)}')
    given = dict(options or {})
    for key in OWN:
        if key in given:
            hint = 'num_classes stands beside them, weights come from checkpoint'
            raise UserError(f'options: {key!r} cannot be among them: {hint}')
    try:
        model = timm.create_model(name, pretrained=False, num_classes=num_classes, **given)
    except TypeError as error:
        raise UserError(f'options: timm cannot make {name!r} with them: {error}') from error
    network = TimmNetwork(model)
    if checkpoint is not None:
        network.load_state_dict(trained_weights(checkpoint, network))
    return network
