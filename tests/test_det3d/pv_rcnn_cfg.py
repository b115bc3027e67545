"""mmdet3d's own PV-RCNN config for KITTI, shrunk until a training step takes a second."""

from pathlib import Path

import mmdet3d
from mmengine.config import Config

CONFIG = 'configs/pv_rcnn/pv_rcnn_8xb2-80e_kitti-3d-3class.py'
RANGE = [0, -12.8, -3, 25.6, 12.8, 1]
VOXEL = [0.2, 0.2, 0.1]


def stock_cfg():
    """The host's whole config."""
    return Config.fromfile(Path(mmdet3d.__file__).parent / '.mim' / CONFIG)


def pv_rcnn(keypoints=256):
    """The model's config: a grid of 128 x 128 x 40 cells, few channels, few proposals."""
    model = stock_cfg().model
    model.data_preprocessor.voxel_layer.update(
        point_cloud_range=RANGE, voxel_size=VOXEL, max_voxels=(4000, 4000)
    )
    model.middle_encoder.update(
        sparse_shape=[41, 128, 128],
        base_channels=4,
        output_channels=8,
        encoder_channels=((4,), (8, 8), (8, 8), (8, 8)),
        encoder_paddings=((0,), (1, 1), (1, 1), ((0, 1, 1), 1)),
    )
    points = model.points_encoder
    points.update(
        num_keypoints=keypoints,
        fused_out_channel=16,
        voxel_size=VOXEL,
        point_cloud_range=RANGE,
        bev_feat_channel=16,
    )
    for layer, channels in zip(points.voxel_sa_cfgs_list, (4, 8, 8, 8), strict=True):
        layer.update(in_channels=channels, mlp_channels=((4, 4), (4, 4)))
    points.rawpoints_sa_cfgs.mlp_channels = ((4, 4), (4, 4))
    model.backbone.update(in_channels=16, layer_nums=[1, 1], out_channels=[8, 16])
    model.neck.update(in_channels=[8, 16], out_channels=[8, 8])
    model.rpn_head.update(in_channels=16, feat_channels=16)
    for row in model.rpn_head.anchor_generator.ranges:
        row[:2], row[3:5] = RANGE[:2], RANGE[3:5]
    head = model.roi_head
    head.semantic_head.in_channels = 16 + 5 * 8
    head.bbox_roi_extractor.update(grid_size=3)
    head.bbox_roi_extractor.roi_layer.update(in_channels=16, mlp_channels=((8, 8), (8, 8)))
    head.bbox_head.update(
        in_channels=16, grid_size=3, shared_fc_channels=(16, 16), reg_channels=(16, 16)
    )
    head.bbox_head.cls_channels = (16, 16)
    model.train_cfg.rpn_proposal.update(nms_pre=400, nms_post=64, max_num=64)
    model.train_cfg.rcnn.sampler.num = 32
    model.test_cfg.rpn.update(nms_pre=200, nms_post=32, max_num=32)
    model.test_cfg.rcnn.score_thr = 0.0
    return model
