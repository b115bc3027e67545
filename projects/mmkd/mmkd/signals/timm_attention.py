"""Vision transformers of timm, whose queries, keys and values come from one projection.

Their attention and that projection get another class, as quantized layers do: parameters, keys and
hooks stay. The rows of the projection's weight are three parts, and each is quantized by itself, as
three projections would be.

What the packed weight cannot do is have a gradient in part: where separate projections would have
none, its part has zeros, so that an optimizer's weight decay and momentum still move it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmkd.quant.functional import Bounds, Codes
from mmkd.quant.modules import KINDS, QuantizedLayer, QuantizedLinear
from mmkd.quant.quantizers import WeightQuantizer
from mmkd.signals.attention import AttentionState, attend, hook_results
from mmkd.signals.observer import current_observer
from mmkd.signals.parts import AttentionPart, Parts

KNOWN = 'of timm only Attention in a Block of a VisionTransformer is known (ViT, DeiT)'


@dataclass(frozen=True, kw_only=True)
class InThirds(WeightQuantizer):
    """Quantizes queries, keys and values of a packed weight one by one.

    Attributes:
        each: quantizer of one of them.
    """

    each: WeightQuantizer

    @property
    def bits(self) -> int:
        """Of a packed code."""
        return self.each.bits

    def codes(self, weight: Tensor, bounds: Bounds | None = None) -> Codes:
        """Codes of the weight's shape and scales that broadcast with them, ``(3 d, 1)``.

        The bounds of the whole weight are not those of its thirds: they are not used.
        """
        found = [self.each.codes(part) for part in weight.chunk(3)]
        scales = [scale.expand(len(codes), *scale.shape[1:]) for codes, scale in found]
        return torch.cat([codes for codes, _ in found]), torch.cat(scales)

    def __call__(self, weight: Tensor) -> Tensor:
        """Quantized weights with the gradient of the quantizer; the shape as given."""
        return torch.cat([self.each(part) for part in weight.chunk(3)])


class PackedLinear(nn.Linear):
    """One projection to queries, keys and values; a recipe sees a linear layer."""


class QuantizedPackedLinear(QuantizedLinear):
    """The same with quantized weights; what is quantized by one scale has three."""

    @property
    def weight_quantizer(self) -> WeightQuantizer | None:
        """Of the packed weight; kept where the plain class looks for it too."""
        return self.__dict__['weight_quantizer']

    @weight_quantizer.setter
    def weight_quantizer(self, each: WeightQuantizer | None) -> None:
        """Takes the quantizer of one part."""
        made = each and InThirds(axis=each.axis, clip=each.clip, each=each)
        self.__dict__['weight_quantizer'] = made


KINDS[PackedLinear] = QuantizedPackedLinear


class ObservedAttention(nn.Module):
    """Attention of timm that tells the observer of the running pass what it computes.

    It is made by changing the class of an ``Attention``, and has its modules.
    """

    mmkd_state: AttentionState

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Attention output, dropped out.

        Args:
            x: ``(B, n, d)``.
            attn_mask: added to the scores, or true where they count.
            is_causal: tokens do not look ahead.
        """
        mask = None
        if attn_mask is not None or is_causal:
            from timm.layers.attention import resolve_self_attn_mask

            mask = resolve_self_attn_mask(x.shape[1], x, attn_mask, is_causal)
        observer, layer = current_observer(), self.mmkd_state.layer
        values = x if observer is None else observer.attention_input(layer, x)
        cut = values if observer is None else observer.query_key_input(layer, values)
        query, key, value = self.project(values, cut)
        query, key = self.q_norm(query), self.k_norm(key)
        context, _ = attend(self, query, key, value, mask, self.scale, self.attn_drop.p)
        context = self.norm(context.flatten(2))
        if self.gate is not None:
            context = context * self.gate(x).sigmoid()
        return self.proj_drop(self.proj(context))

    def project(self, values: Tensor, cut: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values ``(B, H, n, d / H)``.

        Args:
            values: what values are made of, ``(B, n, d)``.
            cut: what queries and keys are made of; the same tensor is projected once.
        """
        if cut is values:
            return self.split(self.qkv(values))
        layer = self.qkv
        quantized = isinstance(layer, QuantizedLayer)
        weight = layer.quantized_weight() if quantized else layer.weight
        read = layer.quantized_input if quantized else lambda tensor: tensor
        rows = 2 * len(weight) // 3
        above, below = (None, None) if layer.bias is None else layer.bias.tensor_split([rows])
        return (
            *self.split(F.linear(read(cut), weight[:rows], above)),
            *self.split(F.linear(read(values), weight[rows:], below)),
        )

    def split(self, packed: Tensor) -> tuple[Tensor, ...]:
        """``(B, n, k d)`` to k tensors ``(B, H, n, d / H)``."""
        parts = packed.unflatten(-1, (-1, self.num_heads, self.head_dim))
        return parts.permute(2, 0, 3, 1, 4).unbind(0)


def find_packed(network: nn.Module, modules: Mapping[str, nn.Module]) -> Parts | None:
    """Embeddings and attention layers of a vision transformer of timm.

    Args:
        network: alone or in a wrapper.
        modules: its modules by qualified name.

    Returns:
        The parts, whose ``query``, ``key`` and ``value`` are one module; None where no module of
        timm has a packed projection.

    Raises:
        UserError: attention or blocks of another kind.
    """
    packed = {
        name: each
        for name, each in modules.items()
        if hasattr(each, 'qkv') and type(each).__module__.startswith(('timm.', __name__))
    }
    if not packed:
        return None
    from timm.models.vision_transformer import Attention, Block

    layers: list[AttentionPart] = []
    for name, attention in packed.items():
        if type(attention) not in (Attention, ObservedAttention):
            raise UserError(f'{name}: a {_full(attention)} cannot be observed; {KNOWN}')
        above = '.'.join(name.split('.')[:-1])
        block = modules[above]
        if type(block) is not Block:
            raise UserError(f'{above}: a {_full(block)} cannot be observed; {KNOWN}')
        qkv, number = attention.qkv, len(layers)
        trio = (qkv, qkv, qkv)
        layers.append(AttentionPart(number, name, attention, *trio, attention.proj, None, block))
    roots = {'.'.join(part.name.split('.')[:-3]) for part in layers}
    embeddings = getattr(modules.get(min(roots)), 'norm_pre', None)
    if len(roots) > 1 or embeddings is None:
        raise UserError(f'{type(network).__name__}: its blocks are not in one row; {KNOWN}')
    return Parts(embeddings, tuple(layers))


def _full(module: nn.Module) -> str:
    """The class of a module with where it is from; many are called Attention."""
    return f'{type(module).__module__}.{type(module).__qualname__}'


def install_packed(parts: Parts, quantizer: Callable[[Tensor], Tensor] | None = None) -> None:
    """Makes a vision transformer of timm tell observers what it computes, once and for good.

    Args:
        parts: its attention layers.
        quantizer: of queries, keys, map and values; None leaves them.

    Raises:
        UserError: the network is quantized already.
    """
    for part in parts.layers:
        if type(part.query) is not nn.Linear:
            kind = type(part.query).__name__
            raise UserError(f'{part.name}.qkv is a {kind}: install comes first, and once')
    for part in parts.layers:
        part.attention.mmkd_state = AttentionState(part.layer, quantizer)
        part.attention.__class__ = ObservedAttention
        part.query.__class__ = PackedLinear
        hook_results(part)
        _hook_sum(part)


def _hook_sum(part: AttentionPart) -> None:
    """The sum of attention output and input is what the second norm reads, scaled and dropped."""
    layer = part.layer

    def into_norm(module: nn.Module, args: tuple) -> None:
        if (observer := current_observer()) is not None:
            observer.joined(layer, args[0])

    part.block.norm2.register_forward_pre_hook(into_norm)
