# A PointPillars that trains on a laptop: 46 m x 38 m, 0.32 m pillars, BN that settles quickly.
point_cloud_range = [0, -19.2, -3, 46.08, 19.2, 1]
voxel_size = [0.32, 0.32, 4]
model = dict(
    type='VoxelNet',
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
    voxel_encoder=dict(
        type='PillarFeatureNet',
        in_channels=4,
        feat_channels=[32],
        norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.1),
        voxel_size=voxel_size,
        point_cloud_range=point_cloud_range,
    ),
    middle_encoder=dict(type='PointPillarsScatter', in_channels=32, output_shape=[120, 144]),
    backbone=dict(
        type='SECOND',
        in_channels=32,
        layer_nums=[1, 2, 2],
        layer_strides=[1, 2, 2],
        out_channels=[24, 48, 96],
        norm_cfg=dict(type='BN', eps=1e-3, momentum=0.1),
    ),
    neck=dict(
        type='SECONDFPN',
        in_channels=[24, 48, 96],
        upsample_strides=[1, 2, 4],
        out_channels=[32, 32, 32],
        norm_cfg=dict(type='BN', eps=1e-3, momentum=0.1),
    ),
    bbox_head=dict(
        type='Anchor3DHead',
        num_classes=3,
        in_channels=96,
        feat_channels=96,
        use_direction_classifier=True,
        assign_per_class=True,
        anchor_generator=dict(
            type='AlignedAnchor3DRangeGenerator',
            ranges=[
                [0, -19.2, -1.7, 46.08, 19.2, -1.7],
                [0, -19.2, -1.7, 46.08, 19.2, -1.7],
                [0, -19.2, -1.7, 46.08, 19.2, -1.7],
            ],
            sizes=[[0.8, 0.6, 1.73], [1.76, 0.6, 1.73], [3.9, 1.6, 1.56]],
            rotations=[0, 1.57],
            reshape_out=False,
        ),
        diff_rad_by_sin=True,
        bbox_coder=dict(type='DeltaXYZWLHRBBoxCoder'),
        loss_cls=dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25),
        loss_bbox=dict(type='mmdet.SmoothL1Loss', beta=1.0 / 9.0, loss_weight=2.0),
        loss_dir=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=False, loss_weight=0.2),
    ),
    train_cfg=dict(
        assigner=[
            dict(
                type='Max3DIoUAssigner',
                iou_calculator=dict(type='BboxOverlapsNearest3D'),
                pos_iou_thr=positive,
                neg_iou_thr=negative,
                min_pos_iou=negative,
                ignore_iof_thr=-1,
            )
            for positive, negative in ((0.5, 0.35), (0.5, 0.35), (0.6, 0.45))
        ],
        allowed_border=0,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        use_rotate_nms=True,
        nms_across_levels=False,
        nms_thr=0.01,
        score_thr=0.1,
        min_bbox_size=0,
        nms_pre=200,
        max_num=50,
    ),
)
