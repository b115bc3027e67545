# CenterPoint on KITTI: mmdet3d's voxel model for nuScenes with KITTI's range, points and boxes;
# heatmap cells of 0.4 m.
_base_ = ['mmdet3d::_base_/models/centerpoint_voxel01_second_secfpn_nus.py']
point_cloud_range = [0, -40, -3, 70.4, 40, 1]
voxel_size = [0.05, 0.05, 0.1]
center_range = [0, -40, -10, 70.4, 40, 10]
model = dict(
    data_preprocessor=dict(
        voxel_layer=dict(
            max_num_points=5,
            point_cloud_range=point_cloud_range,
            voxel_size=voxel_size,
            max_voxels=(16000, 40000),
        )
    ),
    pts_voxel_encoder=dict(num_features=4),
    pts_middle_encoder=dict(in_channels=4, sparse_shape=[41, 1600, 1408]),
    pts_bbox_head=dict(
        type='mmdistill.SoftCenterHead',
        tasks=[dict(num_class=3, class_names=['Pedestrian', 'Cyclist', 'Car'])],
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
            grid_size=[1408, 1600, 40],
            voxel_size=voxel_size,
            code_weights=[1.0] * 8,
        )
    ),
    test_cfg=dict(
        pts=dict(
            post_center_limit_range=center_range,
            voxel_size=voxel_size[:2],
            nms_thr=0.1,
        )
    ),
)
