# CenterPoint on KITTI: mmdet3d's pillar model for nuScenes with KITTI's range, points and boxes;
# heatmap cells of 0.32 m, since a pedestrian is 0.6 m wide.
_base_ = ['mmdet3d::_base_/models/centerpoint_pillar02_second_secfpn_nus.py']
point_cloud_range = [0, -39.68, -3, 69.12, 39.68, 1]
voxel_size = [0.16, 0.16, 4]
center_range = [0, -39.68, -10, 69.12, 39.68, 10]
model = dict(
    data_preprocessor=dict(
        voxel_layer=dict(
            max_num_points=32,
            point_cloud_range=point_cloud_range,
            voxel_size=voxel_size,
            max_voxels=(16000, 40000),
        )
    ),
    pts_voxel_encoder=dict(
        in_channels=4, voxel_size=voxel_size, point_cloud_range=point_cloud_range
    ),
    pts_middle_encoder=dict(output_shape=[496, 432]),
    pts_neck=dict(upsample_strides=[1, 2, 4]),
    pts_bbox_head=dict(
        type='mmdistill.SoftCenterHead',
        tasks=[dict(num_class=3, class_names=['Pedestrian', 'Cyclist', 'Car'])],
        common_heads=dict(_delete_=True, reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2)),
        # The threshold of test_cfg is the one that a teacher can change.
        bbox_coder=dict(
            pc_range=point_cloud_range,
            out_size_factor=2,
            voxel_size=voxel_size,
            post_center_range=center_range,
            score_threshold=None,
            code_size=7,
        ),
    ),
    train_cfg=dict(
        pts=dict(
            point_cloud_range=point_cloud_range,
            grid_size=[432, 496, 1],
            voxel_size=voxel_size,
            out_size_factor=2,
            code_weights=[1.0] * 8,
        )
    ),
    test_cfg=dict(
        pts=dict(
            post_center_limit_range=center_range,
            pc_range=point_cloud_range[:2],
            out_size_factor=2,
            voxel_size=voxel_size[:2],
            nms_thr=0.1,
        )
    ),
)
