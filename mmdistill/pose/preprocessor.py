"""Preprocessing of a semi-supervised pose estimator: whole batches of crops in training."""

from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from mmpose.registry import MODELS as MMPOSE_MODELS

from mmdistill.registry import MODELS


@MODELS.register_module()
class SemiPosePreprocessor(BaseDataPreprocessor):
    """The estimator's own preprocessor, in training over whole batches of equal crops.

    Args:
        host: config of the estimator's preprocessor.
    """

    def __init__(self, host: dict) -> None:
        super().__init__()
        self.host = MMPOSE_MODELS.build(host)

    def forward(self, data: Any, training: bool = False) -> Any:
        """Casts and normalises a batch; crops of two views, (2, 3, H, W), stay side by side.

        Where only some people have two crops, the single crop of the others stands for both.
        """
        if not training:
            return self.host(data, False)
        crops = list(data['inputs'])
        if len({crop.dim() for crop in crops}) > 1:
            crops = [crop if crop.dim() == 4 else crop.expand(2, *crop.shape) for crop in crops]
        crops = torch.stack(crops)
        flat = crops.flatten(0, -4)
        images = self.host(dict(inputs=flat, data_samples=[]), False)['inputs']
        images = images.view(*crops.shape[:-3], *images.shape[-3:])
        return dict(inputs=images, data_samples=data['data_samples'])
