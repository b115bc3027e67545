"""Networks on which FST's steps are measured, and images of their size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class Network:
    """A network for a benchmark.

    DeepLab v2 as domain adaptation uses it: a ResNet at an eighth of the size and one layer of
    two dilated convolutions. Nearly all its time goes into the backbone, unlike the small
    network of the configs, whose head works at a quarter of the size.

    Attributes:
        label: in the report; empty for the network of the config.
        size: pixels of a side of the images.
        images: of a step, half of them labelled.
        depth: of the ResNet; 0: the network of the config.
        channels: of its first stage.
        expansion: channels of its last stage, in those of the first.
    """

    label: str = ''
    size: int = 128
    images: int = 8
    depth: int = 0
    channels: int = 64
    expansion: int = 8

    def segmentor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Config of the segmentor, from that of the config's own."""
        if not self.depth:
            return dict(config)
        backbone = dict(
            type='ResNetV1c',
            depth=self.depth,
            base_channels=self.channels,
            stem_channels=self.channels,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4),
            contract_dilation=True,
            norm_cfg=dict(type='BN', requires_grad=True),
            norm_eval=False,
            style='pytorch',
        )
        head = dict(
            type='mmdistill.DLV2Head',
            in_channels=self.expansion * self.channels,
            in_index=3,
            num_classes=19,
        )
        host = dict(config['data_preprocessor'], size=(self.size, self.size))
        return dict(config, data_preprocessor=host, backbone=backbone, decode_head=head)

    def sized(self, batch: dict) -> dict:
        """A batch of the loader with square images of the network's size."""
        inputs = {
            name: [_resized(each, self.size, 'bilinear') for each in part]
            for name, part in batch['inputs'].items()
        }
        for sample in (each for part in batch['data_samples'].values() for each in part):
            if 'gt_sem_seg' in sample:
                labels = sample.gt_sem_seg
                sample.gt_sem_seg = type(labels)(data=_resized(labels.data, self.size, 'nearest'))
        return dict(batch, inputs=inputs)


def _resized(image: torch.Tensor, size: int, mode: str) -> torch.Tensor:
    """A square image of another size and the same type."""
    if image.shape[-2:] == (size, size):
        return image
    return interpolate(image[None].float(), (size, size), mode=mode)[0].to(image.dtype)


SMALL = Network()
NARROW = Network('narrow DeepLab v2', depth=18, channels=32)
LARGE = Network('DeepLab v2 with ResNet-101', 512, 4, depth=101, expansion=32)
