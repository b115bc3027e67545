"""The context-aware fusion head of DAFormer."""

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.decode_heads.sep_aspp_head import DepthwiseSeparableASPPModule
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmdistill.registry import MODELS


class LevelEmbedding(nn.Module):
    """Maps every position of a feature map linearly to the width of the head.

    Args:
        in_channels: channels of the feature map.
        channels: channels of the embedding.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Embeds (B, in_channels, H, W) as (B, channels, H, W)."""
        height, width = features.shape[2:]
        embedded = self.proj(features.flatten(2).transpose(1, 2))
        return embedded.transpose(1, 2).unflatten(2, (height, width))


class ContextFusion(nn.Module):
    """Fuses a feature map by parallel separable atrous convolutions and a 3x3 convolution.

    Args:
        in_channels: channels of the stacked embeddings.
        channels: channels of every branch and of the output.
        dilations: a branch each; dilation 1 is a 1x1 convolution.
        norm_cfg: config of the normalisation.
        act_cfg: config of the activation.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        dilations: Sequence[int],
        norm_cfg: dict | None,
        act_cfg: dict,
    ) -> None:
        super().__init__()
        self.aspp_modules = DepthwiseSeparableASPPModule(
            dilations=tuple(dilations),
            in_channels=in_channels,
            channels=channels,
            conv_cfg=None,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )
        self.bottleneck = ConvModule(
            len(dilations) * channels, channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=act_cfg
        )

    def forward(self, features: Tensor) -> Tensor:
        """Fuses (B, in_channels, H, W) to (B, channels, H, W)."""
        return self.bottleneck(torch.cat(self.aspp_modules(features), dim=1))


@MODELS.register_module()
class DAFormerHead(BaseDecodeHead):
    """Embeds all levels, stacks them at the finest and fuses them with context.

    The decoder of DAFormer (arXiv:2111.14887, Sec. 3.2): a linear embedding of every level to
    ``embed_dims`` channels, bilinear resizing to the first level, concatenation, separable
    atrous convolutions without image pooling, a 3x3 convolution, dropout and a 1x1 classifier.

    Args:
        in_channels: channels of the levels; the default is MiT-B1 to B5.
        num_classes: number of classes C.
        channels: channels of the fusion.
        embed_dims: channels of every level's embedding.
        dilations: branches of the fusion.
        dropout_ratio: share of channels that are dropped before the classifier.
        norm_cfg: config of the normalisation; None is ``BN``.
        act_cfg: config of the activation; None is ``ReLU``.
        in_index: which of the backbone's feature maps are used.
        loss_decode: config of the loss, or of several.
        ignore_index: label without loss.
        sampler: config of a pixel sampler, for instance of hard pixels.
        align_corners: how levels and logits are resized.
        init_cfg: config of the initialisation; None is mmseg's for the classifier (normal,
            standard deviation 0.01).
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (64, 128, 320, 512),
        *,
        num_classes: int,
        channels: int = 256,
        embed_dims: int = 256,
        dilations: Sequence[int] = (1, 6, 12, 18),
        dropout_ratio: float = 0.1,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        in_index: Sequence[int] = (0, 1, 2, 3),
        loss_decode: dict | Sequence[dict] = dict(type='CrossEntropyLoss'),  # noqa: B006
        ignore_index: int = 255,
        sampler: dict | None = None,
        align_corners: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            list(in_channels),
            channels,
            num_classes=num_classes,
            dropout_ratio=dropout_ratio,
            norm_cfg=norm_cfg or dict(type='BN', requires_grad=True),
            act_cfg=act_cfg or dict(type='ReLU'),
            in_index=list(in_index),
            input_transform='multiple_select',
            loss_decode=loss_decode,
            ignore_index=ignore_index,
            sampler=sampler,
            align_corners=align_corners,
            init_cfg=init_cfg or dict(type='Normal', std=0.01, override=dict(name='conv_seg')),
        )
        self.embed_layers = nn.ModuleDict(
            {str(level): LevelEmbedding(c, embed_dims) for level, c in enumerate(in_channels)}
        )
        self.fuse_layer = ContextFusion(
            embed_dims * len(in_channels), channels, dilations, self.norm_cfg, self.act_cfg
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Computes the logits.

        Args:
            inputs: feature maps of the backbone, (B, C_i, H_i, W_i), finest first.

        Returns:
            (B, C, H_0, W_0).
        """
        levels = self._transform_inputs(inputs)
        size = levels[0].shape[2:]
        embedded = [
            layer(level) for layer, level in zip(self.embed_layers.values(), levels, strict=True)
        ]
        resized = embedded[:1] + [
            interpolate(level, size, mode='bilinear', align_corners=self.align_corners)
            for level in embedded[1:]
        ]
        return self.cls_seg(self.fuse_layer(torch.cat(resized, dim=1)))
