# mmdet3d's CenterPoint on pillars for nuScenes, with its range and the head that weights boxes.
_base_ = ['mmdet3d::_base_/models/centerpoint_pillar02_second_secfpn_nus.py']
point_cloud_range = [-51.2, -51.2, -5, 51.2, 51.2, 3]
model = dict(
    data_preprocessor=dict(voxel_layer=dict(point_cloud_range=point_cloud_range)),
    pts_voxel_encoder=dict(point_cloud_range=point_cloud_range),
    pts_bbox_head=dict(
        type='mmdistill.SoftCenterHead',
        # The threshold of test_cfg is the one that a teacher can change.
        bbox_coder=dict(pc_range=point_cloud_range, score_threshold=None),
    ),
    train_cfg=dict(pts=dict(point_cloud_range=point_cloud_range)),
    test_cfg=dict(pts=dict(pc_range=point_cloud_range[:2])),
)
