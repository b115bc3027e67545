# The tiny CenterPoint around the sensor, with Waymo's point columns (intensity, elongation) and
# order of classes; 51 m x 51 m, pillars of 0.64 m.
_base_ = ['./centerpoint_tiny.py']
point_cloud_range = [-25.6, -25.6, -3, 25.6, 25.6, 3]
voxel_size = [0.64, 0.64, 6]
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
        tasks=[dict(num_class=3, class_names=['Car', 'Pedestrian', 'Cyclist'])],
        bbox_coder=dict(
            pc_range=point_cloud_range, voxel_size=voxel_size, post_center_range=center_range
        ),
    ),
    train_cfg=dict(
        pts=dict(point_cloud_range=point_cloud_range, grid_size=[80, 80, 1], voxel_size=voxel_size)
    ),
    test_cfg=dict(pts=dict(post_center_limit_range=center_range)),
)
