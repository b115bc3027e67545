"""A network that learns classes or values from labels: teachers, and students without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor, nn

from mmkd.models.outputs import label_loss, predictions
from mmkd.quant.recipe import quantize
from mmkd.registry import MODELS, TASK_UTILS
from mmkd.signals.attention import install
from mmkd.signals.parts import find_parts


@MODELS.register_module()
class Classifier(BaseModel):
    """Cross entropy with labels; the squared error where the network has one output.

    Args:
        network: config of :data:`mmkd.registry.MODELS`, or a built network.
        recipe: what is quantized, see :mod:`mmkd.quant.recipe`; nothing by default.
        attention_act: quantizer of queries, keys, maps and values; None leaves them.
        data_preprocessor: see mmengine.
        init_cfg: see mmengine.
    """

    def __init__(
        self,
        network: Mapping[str, Any] | nn.Module,
        recipe: Sequence[Mapping[str, Any]] = (),
        attention_act: Mapping[str, Any] | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.network = network if isinstance(network, nn.Module) else MODELS.build(network)
        shared: Sequence[Sequence[str]] = ()
        if recipe or attention_act:
            parts = find_parts(self.network)
            act = TASK_UTILS.build(attention_act) if attention_act else None
            install(self.network, parts, act)
            shared = parts.shared_inputs
        if recipe:
            quantize(self.network, recipe, shared)

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        labels: Tensor | None = None,
        index: Tensor | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Losses (``loss``), logits and labels (``predict``), or logits."""
        logits = self.network(**inputs).logits
        if mode == 'loss':
            return dict(loss_labels=label_loss(logits, labels))
        return predictions(logits, labels) if mode == 'predict' else logits
