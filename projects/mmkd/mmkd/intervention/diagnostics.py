"""What quantization does to a student, in numbers: zeros, flips, clipping, distance by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.core.modes import evaluating
from mmkd.intervention.intervene import Intervene
from mmkd.quant.modules import QuantizedLayer
from mmkd.registry import HOOKS


def quantized_layers(network: nn.Module) -> dict[str, QuantizedLayer]:
    """Layers with quantized weights, by name."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, QuantizedLayer) and layer.weight_quantizer is not None
    }


@torch.no_grad()
def codes_of(network: nn.Module) -> dict[str, Tensor]:
    """Codes of all quantized weights as 8-bit integers, by name of the layer."""
    return {
        name: layer.weight_quantizer.codes(layer.weight)[0].to(torch.int8)
        for name, layer in quantized_layers(network).items()
    }


def share_of_zeros(codes: Mapping[str, Tensor]) -> Tensor:
    """Share of weights whose code is 0, mean over layers."""
    return torch.stack([(each == 0).float().mean() for each in codes.values()]).mean()


def share_of_flips(codes: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> Tensor:
    """Share of weights whose code has changed, mean over layers."""
    changed = [(each != before[name]).float().mean() for name, each in codes.items()]
    return torch.stack(changed).mean()


@contextmanager
def clip_rates(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collects, while it is open, the share of clipped inputs of each quantized layer's pass."""
    found: list[Tensor] = []

    def note(layer: nn.Module, args: tuple) -> None:
        quantizer = layer.input_quantizer
        clip = getattr(quantizer, 'quantizer', quantizer).clip
        found.append((args[0].abs() >= clip).float().mean())

    handles = [
        layer.register_forward_pre_hook(note)
        for layer in quantized_layers(network).values()
        if layer.input_quantizer is not None
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def distance_by_layer(model: Any, inputs: Mapping[str, Tensor]) -> tuple[list[Tensor], Tensor]:
    """Mean squared distance of the layers' results to the teacher's, without intervention.

    Args:
        model: a :class:`TeacherIntervention`.
        inputs: of the networks.

    Returns:
        One value for the embeddings and one per layer, and the mean share of clipped inputs.
    """
    teacher = model.teacher(inputs, {'hidden'})
    student = Intervene(None, teacher)
    with evaluating(model.student), clip_rates(model.student) as clipped:
        student.run(model.student, inputs)
    pairs = zip(student.signals.hidden, teacher.hidden, strict=True)
    rate = torch.stack(clipped).mean() if clipped else torch.zeros(())
    return [F.mse_loss(mine, theirs) for mine, theirs in pairs], rate


@HOOKS.register_module()
class QuantDiagnosticsHook(Hook):
    """Logs ``quant/zeros``, ``quant/flips``, ``quant/clipped`` and ``quant/mse_<layer>``.

    Flips count the codes that have changed since the last look; the distances are those of the
    batch of the iteration, measured as evaluation would, so they compare the phases.

    Args:
        interval: iterations between two looks; each costs a forward pass of both networks.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self.codes: dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        """The first look is compared with the start, or with what was resumed."""
        self.codes = codes_of(bare_model(runner).student)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Looks, at intervals."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        model = bare_model(runner)
        codes = codes_of(model.student)
        inputs = model.data_preprocessor(data_batch, False)['inputs']
        distances, clipped = distance_by_layer(model, inputs)
        values = dict(zeros=share_of_zeros(codes), flips=share_of_flips(codes, self.codes))
        values['clipped'] = clipped
        values |= {f'mse_{layer}': value for layer, value in enumerate(distances)}
        for name, value in values.items():
            runner.message_hub.update_scalar(f'train/quant/{name}', value.item())
        self.codes = codes
