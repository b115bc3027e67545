# A SECOND that trains on a laptop: voxels of 0.16 m x 0.16 m x 0.2 m, a sparse encoder of few
# channels down to cells of 0.64 m, and the map and head of pointpillars_tiny.py on cells of 0.32 m.
_base_ = ['./pointpillars_tiny.py']
voxel_size = [0.16, 0.16, 0.2]
model = dict(
    data_preprocessor=dict(
        voxel_layer=dict(max_num_points=5, voxel_size=voxel_size, max_voxels=(12000, 12000))
    ),
    voxel_encoder=dict(_delete_=True, type='HardSimpleVFE', num_features=4),
    middle_encoder=dict(
        _delete_=True,
        type='SparseEncoder',
        in_channels=4,
        sparse_shape=[21, 240, 288],
        order=('conv', 'norm', 'act'),
        norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.1),
        base_channels=8,
        output_channels=32,
        encoder_channels=((8,), (16, 16), (32, 32)),
        encoder_paddings=((1,), (1, 1), (1, 1)),
    ),
    backbone=dict(in_channels=64, layer_nums=[2, 2], layer_strides=[1, 2], out_channels=[48, 96]),
    neck=dict(in_channels=[48, 96], upsample_strides=[2, 4], out_channels=[48, 48]),
)
