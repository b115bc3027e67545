# The tiny CenterPoint around the sensor, with nuScenes' point columns (intensity, time) and boxes
# with velocity; 51 m x 51 m, pillars of 0.64 m.
_base_ = ['./centerpoint_tiny.py']
point_cloud_range = [-25.6, -25.6, -5, 25.6, 25.6, 3]
voxel_size = [0.64, 0.64, 8]
center_range = [-25.6, -25.6, -10, 25.6, 25.6, 10]
model = dict(
    data_preprocessor=dict(
        voxel_layer=dict(point_cloud_range=point_cloud_range, voxel_size=voxel_size)
    ),
    pts_voxel_encoder=dict(
        in_channels=5, voxel_size=voxel_size, point_cloud_range=point_cloud_range
    ),
    pts_middle_encoder=dict(output_shape=[80, 80]),
    pts_bbox_head=dict(
        tasks=[
            dict(
                num_class=5, class_names=['car', 'truck', 'construction_vehicle', 'bus', 'trailer']
            ),
            dict(
                num_class=5,
                class_names=['barrier', 'motorcycle', 'bicycle', 'pedestrian', 'traffic_cone'],
            ),
        ],
        common_heads=dict(vel=(2, 2)),
        bbox_coder=dict(
            pc_range=point_cloud_range,
            voxel_size=voxel_size,
            post_center_range=center_range,
            code_size=9,
        ),
    ),
    train_cfg=dict(
        pts=dict(
            point_cloud_range=point_cloud_range,
            grid_size=[80, 80, 1],
            voxel_size=voxel_size,
            code_weights=[1.0] * 8 + [0.2, 0.2],
        )
    ),
    test_cfg=dict(pts=dict(post_center_limit_range=center_range)),
)
