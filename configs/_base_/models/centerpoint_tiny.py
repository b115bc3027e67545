# A CenterPoint for KITTI's boxes that trains on a laptop: the pillars of pointpillars_tiny.py,
# heatmap cells of 0.64 m.
point_cloud_range = [0, -19.2, -3, 46.08, 19.2, 1]
voxel_size = [0.32, 0.32, 4]
center_range = [0, -19.2, -10, 46.08, 19.2, 10]
norm_cfg = dict(type='BN', eps=1e-3, momentum=0.1)
model = dict(
    type='CenterPoint',
    data_preprocessor=dict(
        type='Det3DDataPreprocessor',
        voxel=True,
        voxel_layer=dict(
            max_num_points=12,
            point_cloud_range=point_cloud_range,
            voxel_size=voxel_size,
            max_voxels=(8000, 8000),
        ),
    ),
    pts_voxel_encoder=dict(
        type='PillarFeatureNet',
        in_channels=4,
        feat_channels=[32],
        norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.1),
        voxel_size=voxel_size,
        point_cloud_range=point_cloud_range,
        legacy=False,
    ),
    pts_middle_encoder=dict(type='PointPillarsScatter', in_channels=32, output_shape=[120, 144]),
    pts_backbone=dict(
        type='SECOND',
        in_channels=32,
        layer_nums=[1, 2, 2],
        layer_strides=[1, 2, 2],
        out_channels=[24, 48, 96],
        norm_cfg=norm_cfg,
    ),
    pts_neck=dict(
        type='SECONDFPN',
        in_channels=[24, 48, 96],
        upsample_strides=[0.5, 1, 2],
        out_channels=[32, 32, 32],
        norm_cfg=norm_cfg,
        use_conv_for_no_stride=True,
    ),
    pts_bbox_head=dict(
        type='mmdistill.SoftCenterHead',
        in_channels=96,
        share_conv_channel=48,
        tasks=[dict(num_class=3, class_names=['Pedestrian', 'Cyclist', 'Car'])],
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2)),
        norm_cfg=dict(type='BN2d', eps=1e-3, momentum=0.1),
        separate_head=dict(
            type='SeparateHead',
            init_bias=-2.19,
            final_kernel=3,
            head_conv=48,
            norm_cfg=dict(type='BN2d', eps=1e-3, momentum=0.1),
        ),
        bbox_coder=dict(
            type='CenterPointBBoxCoder',
            pc_range=point_cloud_range,
            out_size_factor=2,
            voxel_size=voxel_size,
            post_center_range=center_range,
            max_num=100,
            score_threshold=None,
            code_size=7,
        ),
        loss_cls=dict(type='mmdet.GaussianFocalLoss', reduction='mean'),
        # Four times that of mmdet3d's configs: four scenes and a thousand steps are little.
        loss_bbox=dict(type='mmdet.L1Loss', reduction='mean', loss_weight=1.0),
    ),
    train_cfg=dict(
        pts=dict(
            point_cloud_range=point_cloud_range,
            grid_size=[144, 120, 1],
            voxel_size=voxel_size,
            out_size_factor=2,
            dense_reg=1,
            gaussian_overlap=0.1,
            max_objs=100,
            min_radius=1,
            code_weights=[1.0] * 8,
        )
    ),
    test_cfg=dict(
        pts=dict(
            post_center_limit_range=center_range,
            score_threshold=0.1,
            nms_type='rotate',
            pre_max_size=200,
            post_max_size=50,
            nms_thr=0.1,
        )
    ),
)
