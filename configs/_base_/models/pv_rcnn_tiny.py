# A PV-RCNN that learns on a laptop: 25.6 m x 25.6 m, voxels of 0.2 m, few channels and keypoints.
_base_ = ['./pv_rcnn_kitti.py']
point_cloud_range = [0, -12.8, -3, 25.6, 12.8, 1]
voxel_size = [0.2, 0.2, 0.1]
norm = dict(type='BN', eps=1e-3, momentum=0.1)
levels = [
    {**level, 'in_channels': channels, 'mlp_channels': ((4, 4), (4, 4))}
    for level, channels in zip(
        _base_.model.points_encoder.voxel_sa_cfgs_list, (4, 8, 8, 8), strict=True
    )
]
model = dict(
    data_preprocessor=dict(
        voxel_layer=dict(
            point_cloud_range=point_cloud_range, voxel_size=voxel_size, max_voxels=(6000, 6000)
        )
    ),
    middle_encoder=dict(
        sparse_shape=[41, 128, 128],
        norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.1),
        base_channels=4,
        output_channels=8,
        encoder_channels=((4,), (8, 8), (8, 8), (8, 8)),
        encoder_paddings=((0,), (1, 1), (1, 1), ((0, 1, 1), 1)),
    ),
    points_encoder=dict(
        num_keypoints=256,
        fused_out_channel=16,
        voxel_size=voxel_size,
        point_cloud_range=point_cloud_range,
        voxel_sa_cfgs_list=levels,
        rawpoints_sa_cfgs=dict(mlp_channels=((4, 4), (4, 4))),
        bev_feat_channel=16,
    ),
    backbone=dict(in_channels=16, layer_nums=[1, 1], out_channels=[16, 32], norm_cfg=norm),
    neck=dict(in_channels=[16, 32], out_channels=[16, 16], norm_cfg=norm),
    rpn_head=dict(
        in_channels=32,
        feat_channels=32,
        anchor_generator=dict(
            ranges=[[0, -12.8, z, 25.6, 12.8, z] for z in (-1.7, -1.7, -1.7)],
        ),
    ),
    roi_head=dict(
        semantic_head=dict(in_channels=56, mlp_channels=(32, 32)),
        bbox_roi_extractor=dict(
            grid_size=3, roi_layer=dict(in_channels=16, mlp_channels=((8, 8), (8, 8)))
        ),
        bbox_head=dict(
            in_channels=16,
            grid_size=3,
            shared_fc_channels=(32, 32),
            reg_channels=(32, 32),
            cls_channels=(32, 32),
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=400, nms_post=64, max_num=64),
        # Proposals of the first steps reach no object: the second stage learns from true boxes.
        rcnn=dict(sampler=dict(num=32, add_gt_as_proposals=True)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, nms_post=32, max_num=32)),
)
