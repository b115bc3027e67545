"""The student's forward pass with tensors of the teacher in it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mmkd.signals.observer import KINDS, Recorder, Signals, observed_by


class Intervene(Recorder):
    """Notes the student's tensors and replaces those of one kind by the teacher's.

    Errors of earlier parts of an attention layer then cannot travel on, and gradients do not cross
    what was replaced: queries and keys learn from the loss of their own scores alone.

    ======= ======================== =============================== =========================
    mode    replaced                 gradient ends at the input of   without any gradient
    ======= ======================== =============================== =========================
    output  attention output (AO)    queries, keys, values           values, output projection
    context context (AC)             queries, keys, values           values
    map     attention map (SA)       queries, keys                   none
    ======= ======================== =============================== =========================

    Args:
        mode: see the table; None replaces nothing.
        teacher: its signals of the same batch, of the kind that is replaced at least.
    """

    def __init__(self, mode: str | None, teacher: Signals) -> None:
        super().__init__(KINDS)
        self.mode, self.teacher = mode, teacher
        self.used_outputs: list[Tensor] = []
        self._cut: tuple[Tensor, Tensor] | None = None

    def run(self, network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits of a pass of the student."""
        with observed_by(self):
            return network(**inputs).logits

    def attention_input(self, layer: int, values: Tensor) -> Tensor:
        """Cut off from what lies below, when the values are replaced."""
        return values.detach() if self.mode in ('output', 'context') else values

    def query_key_input(self, layer: int, values: Tensor) -> Tensor:
        """Cut off, when the map is replaced; one tensor for both, which is quantized once."""
        if self.mode != 'map':
            return values
        if self._cut is None or self._cut[0] is not values:
            self._cut = values, values.detach()
        return self._cut[1]

    def attention_map(self, layer: int, values: Tensor) -> Tensor:
        """The teacher's in mode ``map``."""
        super().attention_map(layer, values)
        return self.teacher.maps[layer].to(values) if self.mode == 'map' else values

    def context(self, layer: int, values: Tensor) -> Tensor:
        """The teacher's in mode ``context``."""
        super().context(layer, values)
        return self.teacher.contexts[layer].to(values) if self.mode == 'context' else values

    def output(self, layer: int, values: Tensor) -> Tensor:
        """The teacher's in mode ``output``."""
        super().output(layer, values)
        used = self.teacher.outputs[layer].to(values) if self.mode == 'output' else values
        self.used_outputs.append(used)
        return used

    def sums(self) -> list[Tensor]:
        """Attention output plus input, layer by layer, normed where the norm comes last."""
        if self.signals.joined:
            return self.signals.joined
        pairs = zip(self.signals.hidden, self.used_outputs, strict=False)
        return [below + used for below, used in pairs]
