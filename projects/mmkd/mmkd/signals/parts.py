"""The attention layers of a Transformer and their projections, found by role.

Names differ between families and releases (``attention.self.query``, ``attention.q_proj``); what a
layer does is the same. Vision transformers of timm have one projection for queries, keys and
values together.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mmdistill.core.errors import UserError

QUERY, KEY, VALUE = ('query', 'q_proj'), ('key', 'k_proj'), ('value', 'v_proj')
OUTPUT = ('o_proj', 'out_proj')
EMBEDDINGS = ('embeddings',)


@dataclass(frozen=True)
class AttentionPart:
    """One attention layer.

    Attributes:
        layer: number, from 0.
        name: qualified name of ``attention``.
        attention: the module that computes scores, map and context.
        query: projection of the queries; that of keys and values are alike, or the same module.
        key: see ``query``.
        value: see ``query``.
        output: projection of the context, whose result is the attention output (AO).
        joined: module whose result is the normed sum of attention output and input (ATT); None
            where the norm comes first and ATT is the sum alone.
        block: the whole encoder layer.
    """

    layer: int
    name: str
    attention: nn.Module
    query: nn.Module
    key: nn.Module
    value: nn.Module
    output: nn.Module
    joined: nn.Module | None
    block: nn.Module


@dataclass(frozen=True)
class Parts:
    """What is known of a Transformer.

    Attributes:
        embeddings: module whose result the first encoder layer reads.
        layers: attention layers in order.
    """

    embeddings: nn.Module
    layers: tuple[AttentionPart, ...]

    @property
    def packed(self) -> bool:
        """Whether one projection makes queries, keys and values."""
        return any(part.query is part.value for part in self.layers)

    @property
    def shared_inputs(self) -> list[tuple[str, str, str]]:
        """Qualified names of queries, keys and values, which read the same tensor."""
        if self.packed:
            return []
        found = []
        for part in self.layers:
            names = {id(child): name for name, child in part.attention.named_children()}
            trio = (part.query, part.key, part.value)
            found.append(tuple(f'{part.name}.{names[id(each)]}' for each in trio))
        return found


def _child(module: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    """The first child of one of these names."""
    return next((each for name, each in module.named_children() if name in names), None)


def find_parts(network: nn.Module) -> Parts:
    """Finds embeddings and attention layers.

    Args:
        network: a Transformer encoder of Hugging Face, alone or with heads: BERT and its
            relatives, or ViT; or a vision transformer of timm.

    Raises:
        UserError: no attention layer is known.
    """
    modules = dict(network.named_modules())
    layers: list[AttentionPart] = []
    for name, module in modules.items():
        query, key, value = (_child(module, names) for names in (QUERY, KEY, VALUE))
        if query is None or key is None or value is None:
            continue
        parents = name.split('.')
        above = modules.get('.'.join(parents[:-1]))
        output, joined, depth = _child(module, OUTPUT), None, 1
        if output is None and above is not None:
            # projection beside the attention; BERT adds and norms in the module around it
            beside = _child(above, ('output',))
            output = _child(beside, ('dense',)) if beside is not None else None
            has_norm = beside is not None and _child(beside, ('LayerNorm',)) is not None
            joined, depth = (beside if has_norm else None), 2
        if output is None:
            raise UserError(
                f'{name}: a {type(module).__name__} has queries, keys and values, but no output '
                'projection that is known'
            )
        block = modules['.'.join(parents[:-depth])]
        layers.append(
            AttentionPart(len(layers), name, module, query, key, value, output, joined, block)
        )
    if not layers:
        from mmkd.signals.timm_attention import find_packed

        packed = find_packed(network, modules)
        if packed is not None:
            return packed
    embeddings = next((m for n, m in modules.items() if n.split('.')[-1] in EMBEDDINGS), None)
    if not layers or embeddings is None:
        raise UserError(
            f'{type(network).__name__} has no attention that is known: a Transformer encoder of '
            'Hugging Face is wanted (BERT and its relatives, ViT), or a VisionTransformer of timm'
        )
    return Parts(embeddings, tuple(layers))
