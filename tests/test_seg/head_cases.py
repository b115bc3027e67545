"""Small segmentors and data samples of mmseg."""

import warnings

import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch import nn

CE = dict(type='CrossEntropyLoss')


class Backbone(nn.Module):
    """Two strided convolutions, one level each."""

    def __init__(self, width=8):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, 2, 1)
        self.second = nn.Conv2d(width, width, 3, 2, 1)

    def forward(self, inputs):
        """Two levels of features."""
        first = self.first(inputs).relu()
        return first, self.second(first).relu()


def build(config):
    """Builds a model in mmseg's scope without its remarks."""
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmseg'), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return MODELS.build(config)


def head_config(classes=5, in_index=1, **more):
    """A fully convolutional head without batch norm or dropout."""
    return dict(
        type='FCNHead',
        in_channels=8,
        channels=6,
        num_convs=1,
        concat_input=False,
        in_index=in_index,
        num_classes=classes,
        dropout_ratio=0.0,
        **more,
    )


def segmentor_of(auxiliary=None, **head):
    """An ``EncoderDecoder`` on :class:`Backbone`, weights drawn with a fixed seed."""
    torch.manual_seed(0)
    MODELS.register_module('SegTestBackbone', force=True, module=Backbone)
    return build(
        dict(
            type='EncoderDecoder',
            backbone=dict(type='SegTestBackbone'),
            decode_head=head_config(**head),
            auxiliary_head=auxiliary,
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    )


def samples_of(labels):
    """Data samples with these (B, H, W) labels."""
    return [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]
