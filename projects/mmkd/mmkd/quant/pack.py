"""Codes of quantized weights in few bits: what is written for deployment.

Four ternary weights share a byte. The rest of a network (biases, norms, what the recipe leaves
alone) stays as it is, so a packed file has all that a network needs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmkd.quant.modules import QuantizedLayer

FORMAT = 1


def pack_codes(codes: Tensor, bits: int) -> Tensor:
    """Integers in few bits.

    Args:
        codes: any shape, integers in ``[-2^(bits-1), 2^(bits-1))``, or of {-1, 1} with one bit.
        bits: 1 to 8; a byte holds as many codes as fit whole.

    Returns:
        Bytes, the first code in the lowest bits; the last byte is filled up with zeros.
    """
    flat = codes.reshape(-1).to(torch.int16)
    if bits == 1:
        flat = (flat > 0).to(torch.int16)
    flat = flat & ((1 << bits) - 1)
    per = 8 // bits
    flat = torch.cat([flat, flat.new_zeros(-len(flat) % per)]).view(-1, per)
    shifts = bits * torch.arange(per, dtype=torch.int16, device=codes.device)
    return (flat << shifts).sum(1).to(torch.uint8)


def unpack_codes(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`pack_codes`.

    Args:
        packed: bytes.
        bits: of a code.
        shape: of the codes.

    Returns:
        Codes as 8-bit integers.

    Raises:
        ValueError: there are too few or too many bytes for the shape.
    """
    per, count = 8 // bits, int(torch.Size(shape).numel())
    if packed.numel() != -(-count // per):
        raise ValueError(f'{packed.numel()} bytes do not hold {count} codes of {bits} bits')
    shifts = bits * torch.arange(per, dtype=torch.int16, device=packed.device)
    values = (packed.to(torch.int16)[:, None] >> shifts) & ((1 << bits) - 1)
    values = values.reshape(-1)[:count]
    if bits == 1:
        values = 2 * values - 1
    else:
        values = values - ((values >> (bits - 1)) << bits)
    return values.to(torch.int8).view(shape)


@dataclass(frozen=True)
class SizeReport:
    """Bytes of a network.

    Attributes:
        full: all parameters and buffers as they are.
        packed: with packed codes.
        quantized: number of weights that are packed.
        rest: number of values that are not.
    """

    full: int
    packed: int
    quantized: int
    rest: int

    @property
    def ratio(self) -> float:
        """How many times smaller the packed network is."""
        return self.full / self.packed

    def __str__(self) -> str:
        return (
            f'{self.full / 1e6:.2f} MB -> {self.packed / 1e6:.2f} MB ({self.ratio:.2f}x): '
            f'{self.quantized:,} weights packed, {self.rest:,} values as they were'
        )


@torch.no_grad()
def pack(network: nn.Module) -> dict[str, Any]:
    """The state of a quantized network with packed weights.

    Args:
        network: with layers of :func:`mmkd.quant.recipe.quantize`.

    Returns:
        ``format``, ``state`` (tensors that stay) and ``packed`` (by key of a weight: ``bits``,
        ``shape``, ``dtype``, ``codes``, ``scale``).

    Raises:
        UserError: no layer is quantized.
    """
    state, packed = dict(network.state_dict()), {}
    for name, layer in network.named_modules():
        if not isinstance(layer, QuantizedLayer) or layer.weight_quantizer is None:
            continue
        quantizer, key = layer.weight_quantizer, f'{name}.weight' if name else 'weight'
        codes, scale = quantizer.codes(layer.weight)
        packed[key] = dict(
            bits=quantizer.bits,
            shape=tuple(codes.shape),
            dtype=str(layer.weight.dtype).removeprefix('torch.'),
            codes=pack_codes(codes, quantizer.bits),
            scale=scale,
        )
        del state[key]
    if not packed:
        raise UserError(f'{type(network).__name__} has no quantized weight to pack')
    return dict(format=FORMAT, state=state, packed=packed)


def size_of(content: Mapping[str, Any]) -> SizeReport:
    """Sizes of what :func:`pack` gives."""
    state, packed = content['state'].values(), content['packed'].values()
    rest = sum(each.nbytes for each in state)
    weights = [torch.Size(each['shape']).numel() for each in packed]
    widths = [getattr(torch, each['dtype']).itemsize for each in packed]
    return SizeReport(
        full=rest + sum(n * width for n, width in zip(weights, widths, strict=True)),
        packed=rest + sum(each['codes'].nbytes + each['scale'].nbytes for each in packed),
        quantized=sum(weights),
        rest=sum(each.numel() for each in state),
    )


def unpack(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """A ``state_dict`` for the plain network, whose weights are those quantized ones.

    Args:
        content: of :func:`pack`.

    Raises:
        UserError: content of another format.
    """
    if content.get('format') != FORMAT:
        raise UserError(f'packed weights have format {content.get("format")!r}, not {FORMAT}')
    state = dict(content['state'])
    for key, each in content['packed'].items():
        codes = unpack_codes(each['codes'], each['bits'], each['shape'])
        state[key] = codes.to(getattr(torch, each['dtype'])).mul_(each['scale'])
    return state


def save_packed(network: nn.Module, path: str | os.PathLike) -> SizeReport:
    """Writes a packed network, whole or not at all.

    Args:
        network: with quantized layers.
        path: of the file.

    Returns:
        Sizes.
    """
    content, path = pack(network), Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    torch.save(content, part)
    os.replace(part, path)
    return size_of(content)


def load_packed(path: str | os.PathLike) -> dict[str, Tensor]:
    """Reads a packed network; loads no code.

    Args:
        path: of :func:`save_packed`.

    Returns:
        See :func:`unpack`.

    Raises:
        UserError: the file is not a packed network.
    """
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise UserError(f'{path}: no packed network can be read from it: {error}') from error
    if not isinstance(content, Mapping) or 'packed' not in content:
        raise UserError(f'{path}: this is no packed network; save_packed writes one')
    return unpack(content)
