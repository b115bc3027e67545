"""Tiny estimators of mmpose: ResNet, HRNet and a transformer."""

import torch
from mmengine.registry import DefaultScope
from mmpose.registry import MODELS
from torch import nn

JOINTS = 5
CODEC = dict(type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=1)
RESNET = dict(type='ResNet', depth=18)
HRNET = dict(
    type='HRNet',
    in_channels=3,
    extra=dict(
        stage1=dict(
            num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(8,)
        ),
        stage2=dict(
            num_modules=1, num_branches=2, block='BASIC', num_blocks=(1, 1), num_channels=(4, 8)
        ),
        stage3=dict(
            num_modules=2,
            num_branches=3,
            block='BASIC',
            num_blocks=(1, 1, 1),
            num_channels=(4, 8, 16),
        ),
        stage4=dict(
            num_modules=1,
            num_branches=4,
            block='BASIC',
            num_blocks=(1, 1, 1, 1),
            num_channels=(4, 8, 16, 32),
        ),
    ),
)


class TinyViT(nn.Module):
    """The smallest backbone with tokens: patches of 16 x 16 pixels, a class token in front."""

    def __init__(self, channels=12, depth=3):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, channels, 16, 16)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(channels, 2, 16, dropout=0.1, batch_first=True)
            for _ in range(depth)
        )

    def forward(self, x):
        """The last layer's map in a tuple."""
        x = self.patch_embed(x)
        batch, channels, height, width = x.shape
        x = torch.cat([self.cls_token.expand(batch, -1, -1), x.flatten(2).transpose(1, 2)], 1)
        for layer in self.layers:
            x = layer(x)
        return (x[:, 1:].transpose(1, 2).reshape(batch, channels, height, width),)


def estimator(kind='resnet', seed=0, **changes):
    """A ``TopdownPoseEstimator`` for 64 x 64 pixels, 16 x 16 heatmaps and 5 joints."""
    backbone, channels, deconvs = dict(
        resnet=(RESNET, 512, 3), hrnet=(HRNET, 4, 0), vit=(dict(type=TinyViT), 12, 2)
    )[kind]
    head = dict(
        type='HeatmapHead',
        in_channels=channels,
        out_channels=JOINTS,
        deconv_out_channels=(8,) * deconvs,
        deconv_kernel_sizes=(4,) * deconvs,
        decoder=CODEC,
    )
    if kind == 'hrnet':
        head.update(deconv_out_channels=None, deconv_kernel_sizes=None)
        # mmpose's HRNet keeps the branch of the highest resolution alone
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpose'):
        model = MODELS.build(
            dict(
                type='TopdownPoseEstimator',
                backbone=backbone,
                head={**head, **changes},
                train_cfg=dict(compute_acc=False),
            )
        )
        model.init_weights()
    return model
