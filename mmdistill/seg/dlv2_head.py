"""The head of DeepLabV2, one sum of atrous convolutions."""

from collections.abc import Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmdistill.registry import MODELS


@MODELS.register_module()
class DLV2Head(BaseDecodeHead):
    """Classifies with 3x3 convolutions of several dilations whose outputs are added up.

    The head of DeepLabV2 (arXiv:1606.00915) as domain adaptation uses it (AdaptSegNet,
    arXiv:1802.10349): no hidden layer, no normalisation, no dropout. Its convolutions start
    from a normal distribution with standard deviation 0.01 and bias 0.

    Args:
        in_channels: channels of the feature map.
        num_classes: number of classes C.
        dilations: one convolution each. ``(6, 12)`` is the reduced head of AdaptSegNet and
            DAFormer, ``(6, 12, 18, 24)`` the one of the paper.
        in_index: which of the backbone's feature maps is used.
        loss_decode: config of the loss, or of several.
        ignore_index: label without loss.
        sampler: config of a pixel sampler, for instance of hard pixels.
        align_corners: how logits are resized to the label.
        init_cfg: config of the initialisation; None is the one above.

    Raises:
        UserError: ``dilations`` is empty or holds something that is not a positive integer.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        dilations: Sequence[int] = (6, 12),
        in_index: int = -1,
        loss_decode: dict | Sequence[dict] = dict(type='CrossEntropyLoss'),  # noqa: B006
        ignore_index: int = 255,
        sampler: dict | None = None,
        align_corners: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        if not dilations or not all(isinstance(d, int) and d > 0 for d in dilations):
            raise UserError(f'dilations must be positive integers, got {dilations!r}')
        super().__init__(
            in_channels,
            1,
            num_classes=num_classes,
            dropout_ratio=0,
            in_index=in_index,
            loss_decode=loss_decode,
            ignore_index=ignore_index,
            sampler=sampler,
            align_corners=align_corners,
            init_cfg=init_cfg or dict(type='Normal', std=0.01, override=dict(name='convs')),
        )
        del self.conv_seg
        self.convs = nn.ModuleList(
            nn.Conv2d(in_channels, self.out_channels, 3, padding=d, dilation=d) for d in dilations
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Computes the logits.

        Args:
            inputs: feature maps of the backbone; the used one is (B, in_channels, H, W).

        Returns:
            (B, C, H, W).
        """
        features = self._transform_inputs(inputs)
        logits = self.convs[0](features)
        for conv in self.convs[1:]:
            logits = logits + conv(features)
        return logits
