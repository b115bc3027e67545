"""Semi-supervised 3D detection on mmdet3d."""

from mmdistill.det3d import compat
from mmdistill.det3d.bank_feed import ObjectBankHook, ObjectBankSample
from mmdistill.det3d.center_head import SoftCenterHead
from mmdistill.det3d.center_scores import HeatmapPeak
from mmdistill.det3d.datasets import LoadLiDARPoints, SemiDet3DDataset
from mmdistill.det3d.hssda import HSSDA
from mmdistill.det3d.kitti_metric import KittiMetric
from mmdistill.det3d.mean_teacher_3d import MeanTeacher3D
from mmdistill.det3d.mining import PseudoMiningHook
from mmdistill.det3d.preprocessor import SemiDet3DPreprocessor
from mmdistill.det3d.pv_rcnn import PVRCNN
from mmdistill.det3d.semi_detector import SemiDet3D
from mmdistill.det3d.soft_heads import SoftAnchor3DHead
from mmdistill.det3d.soft_roi_heads import SoftPartA2RPNHead, SoftPVRCNNRoIHead

__all__ = [
    'HSSDA',
    'HeatmapPeak',
    'KittiMetric',
    'LoadLiDARPoints',
    'MeanTeacher3D',
    'ObjectBankHook',
    'ObjectBankSample',
    'PVRCNN',
    'PseudoMiningHook',
    'SemiDet3D',
    'SemiDet3DDataset',
    'SemiDet3DPreprocessor',
    'SoftAnchor3DHead',
    'SoftCenterHead',
    'SoftPVRCNNRoIHead',
    'SoftPartA2RPNHead',
    'compat',
]
