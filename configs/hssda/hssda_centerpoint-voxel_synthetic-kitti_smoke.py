# Eight iterations of HSSDA with a CenterPoint on voxels: unshuffled at the official place.
_base_ = ['./hssda_centerpoint_synthetic-kitti_smoke.py']
voxel_size = [0.16, 0.16, 0.1]
stride = 4
detector = dict(
    data_preprocessor=dict(voxel_layer=dict(max_num_points=5, voxel_size=voxel_size)),
    pts_voxel_encoder=dict(_delete_=True, type='HardSimpleVFE', num_features=4),
    pts_middle_encoder=dict(
        _delete_=True,
        type='SparseEncoder',
        in_channels=4,
        sparse_shape=[41, 240, 288],
        order=('conv', 'norm', 'act'),
        base_channels=8,
        output_channels=32,
        encoder_channels=((8,), (16, 16), (16, 16), (16, 16)),
        encoder_paddings=((0,), (1, 1), (1, 1), ((0, 1, 1), 1)),
    ),
    pts_backbone=dict(
        in_channels=64, layer_nums=[1, 1], layer_strides=[1, 2], out_channels=[48, 96]
    ),
    # From stride 8 back to stride 4: heatmap cells of 0.64 m.
    pts_neck=dict(in_channels=[48, 96], upsample_strides=[2, 4], out_channels=[48, 48]),
    pts_bbox_head=dict(bbox_coder=dict(out_size_factor=stride, voxel_size=voxel_size)),
    train_cfg=dict(
        pts=dict(grid_size=[288, 240, 40], voxel_size=voxel_size, out_size_factor=stride)
    ),
)
model = dict(detector=detector, shuffle=dict(unshuffle_at='middle_encoder'))
