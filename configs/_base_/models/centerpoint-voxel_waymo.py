# CenterPoint on Waymo: mmdet3d's voxel model for nuScenes with the range, voxels and five point
# columns of the official Waymo configs (those are for PV-RCNN; the detector is ours).
_base_ = ['mmdet3d::_base_/models/centerpoint_voxel01_second_secfpn_nus.py']
point_cloud_range = [-75.2, -75.2, -2, 75.2, 75.2, 4]
voxel_size = [0.1, 0.1, 0.15]
center_range = [-80, -80, -10, 80, 80, 10]
model = dict(
    data_preprocessor=dict(
        voxel_layer=dict(
            max_num_points=5,
            point_cloud_range=point_cloud_range,
            voxel_size=voxel_size,
            max_voxels=(150000, 150000),
        )
    ),
    pts_middle_encoder=dict(sparse_shape=[41, 1504, 1504]),
    pts_bbox_head=dict(
        type='mmdistill.SoftCenterHead',
        tasks=[dict(num_class=3, class_names=['Car', 'Pedestrian', 'Cyclist'])],
        common_heads=dict(_delete_=True, reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2)),
        # The threshold of test_cfg is the one that a teacher can change.
        bbox_coder=dict(
            pc_range=point_cloud_range,
            voxel_size=voxel_size,
            post_center_range=center_range,
            score_threshold=None,
            code_size=7,
        ),
    ),
    train_cfg=dict(
        pts=dict(
            point_cloud_range=point_cloud_range,
            grid_size=[1504, 1504, 40],
            voxel_size=voxel_size,
            code_weights=[1.0] * 8,
        )
    ),
    test_cfg=dict(
        pts=dict(
            post_center_limit_range=center_range,
            pc_range=point_cloud_range[:2],
            voxel_size=voxel_size[:2],
            pre_max_size=4096,
            post_max_size=300,
            nms_thr=0.7,
        )
    ),
)
