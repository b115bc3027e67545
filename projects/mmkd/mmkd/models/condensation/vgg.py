"""VGG11 (arXiv:1409.1556) with one linear layer, as dataset condensation has it."""

from __future__ import annotations

from torch import nn

from mmkd.models.condensation.layers import CondensationNetwork, Layers

WIDTHS, COUNTS = (64, 128, 256, 512, 512), (1, 1, 2, 2, 2)


def vgg11(layers: Layers, num_classes: int, norm: str) -> CondensationNetwork:
    """Five blocks that end with a pool, the mean over what is left of the image, a linear head.

    One pixel is left of 32 x 32. The mean over the 2 x 2 of 64 x 64 is the last pool of stride 2
    that the literature has there.

    Args:
        layers: of the images.
        num_classes: outputs.
        norm: kind of normalisation.
    """
    parts: dict[str, nn.Module] = {}
    for number, (width, count) in enumerate(zip(WIDTHS, COUNTS, strict=True), start=1):
        block = []
        for _ in range(count):
            margin = 0 if parts else layers.margin
            block += [layers.conv(width, margin=margin), layers.norm(norm), nn.ReLU()]
        parts[f'block{number}'] = nn.Sequential(*block, layers.pool())
    parts['pool'] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts['head'] = nn.Linear(layers.channels, num_classes)
    return CondensationNetwork(layers, parts)
