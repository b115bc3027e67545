"""Preprocessing of a semi-supervised 3D detector: raw points in training, voxels in testing."""

from typing import Any

from mmdet3d.registry import MODELS as MMDET3D_MODELS
from mmengine.model import BaseDataPreprocessor

from mmdistill.registry import MODELS


@MODELS.register_module()
class SemiDet3DPreprocessor(BaseDataPreprocessor):
    """Moves the raw scenes to the device; the method voxelises each view it makes of them.

    Args:
        host: config of the detector's own preprocessor, used as it is in testing.
    """

    def __init__(self, host: dict) -> None:
        super().__init__()
        self.host = MMDET3D_MODELS.build(host)

    def forward(self, data: Any, training: bool = False) -> Any:
        """Casts the batch (training) or runs the detector's preprocessor (testing)."""
        if not training:
            return self.host(data, False)
        return self.cast_data(data)
