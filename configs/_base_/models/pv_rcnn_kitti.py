# PV-RCNN for three classes of KITTI; mmdet3d has it as a whole config only, no base of its own.
point_cloud_range = [0, -40, -3, 70.4, 40, 1]
voxel_size = [0.05, 0.05, 0.1]
smooth_l1 = dict(type='mmdet.SmoothL1Loss', beta=1.0 / 9.0)
focal = dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)
set_abstraction = dict(type='StackedSAModuleMSG', use_xyz=True)
model = dict(
    type='mmdistill.PVRCNN',
    data_preprocessor=dict(
        type='Det3DDataPreprocessor',
        voxel=True,
        voxel_layer=dict(
            max_num_points=5,
            point_cloud_range=point_cloud_range,
            voxel_size=voxel_size,
            max_voxels=(16000, 40000),
        ),
    ),
    voxel_encoder=dict(type='HardSimpleVFE'),
    middle_encoder=dict(
        type='SparseEncoder',
        in_channels=4,
        sparse_shape=[41, 1600, 1408],
        order=('conv', 'norm', 'act'),
        encoder_paddings=(
            (0, 0, 0),
            ((1, 1, 1), 0, 0),
            ((1, 1, 1), 0, 0),
            ((0, 1, 1), 0, 0),
        ),
        return_middle_feats=True,
    ),
    points_encoder=dict(
        type='VoxelSetAbstraction',
        num_keypoints=2048,
        fused_out_channel=128,
        voxel_size=voxel_size,
        point_cloud_range=point_cloud_range,
        voxel_sa_cfgs_list=[
            dict(
                in_channels=channels,
                scale_factor=scale,
                radius=radius,
                sample_nums=sample_nums,
                mlp_channels=((channels, channels), (channels, channels)),
                **set_abstraction,
            )
            for channels, scale, radius, sample_nums in (
                (16, 1, (0.4, 0.8), (16, 16)),
                (32, 2, (0.8, 1.2), (16, 32)),
                (64, 4, (1.2, 2.4), (16, 32)),
                (64, 8, (2.4, 4.8), (16, 32)),
            )
        ],
        rawpoints_sa_cfgs=dict(
            in_channels=1,
            radius=(0.4, 0.8),
            sample_nums=(16, 16),
            mlp_channels=((16, 16), (16, 16)),
            **set_abstraction,
        ),
        bev_feat_channel=256,
        bev_scale_factor=8,
    ),
    backbone=dict(
        type='SECOND',
        in_channels=256,
        layer_nums=[5, 5],
        layer_strides=[1, 2],
        out_channels=[128, 256],
    ),
    neck=dict(
        type='SECONDFPN', in_channels=[128, 256], upsample_strides=[1, 2], out_channels=[256, 256]
    ),
    rpn_head=dict(
        type='PartA2RPNHead',
        num_classes=3,
        in_channels=512,
        feat_channels=512,
        use_direction_classifier=True,
        dir_offset=0.78539,
        anchor_generator=dict(
            type='Anchor3DRangeGenerator',
            ranges=[[0, -40.0, z, 70.4, 40.0, z] for z in (-0.6, -0.6, -1.78)],
            sizes=[[0.8, 0.6, 1.73], [1.76, 0.6, 1.73], [3.9, 1.6, 1.56]],
            rotations=[0, 1.57],
            reshape_out=False,
        ),
        diff_rad_by_sin=True,
        assigner_per_size=True,
        assign_per_class=True,
        bbox_coder=dict(type='DeltaXYZWLHRBBoxCoder'),
        loss_cls=dict(loss_weight=1.0, **focal),
        loss_bbox=dict(loss_weight=2.0, **smooth_l1),
        loss_dir=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=False, loss_weight=0.2),
    ),
    roi_head=dict(
        type='PVRCNNRoiHead',
        num_classes=3,
        semantic_head=dict(
            type='ForegroundSegmentationHead',
            in_channels=640,
            extra_width=0.1,  # on every side: boxes grow by 0.2 m
            loss_seg=dict(reduction='sum', activated=True, loss_weight=1.0, **focal),
        ),
        bbox_roi_extractor=dict(
            type='Batch3DRoIGridExtractor',
            grid_size=6,
            roi_layer=dict(
                in_channels=128,
                radius=(0.8, 1.6),
                sample_nums=(16, 16),
                mlp_channels=((64, 64), (64, 64)),
                pool_mod='max',
                **set_abstraction,
            ),
        ),
        bbox_head=dict(
            type='PVRCNNBBoxHead',
            in_channels=128,
            grid_size=6,
            num_classes=3,
            class_agnostic=True,
            shared_fc_channels=(256, 256),
            reg_channels=(256, 256),
            cls_channels=(256, 256),
            dropout_ratio=0.3,
            with_corner_loss=True,
            bbox_coder=dict(type='DeltaXYZWLHRBBoxCoder'),
            loss_bbox=dict(reduction='sum', loss_weight=1.0, **smooth_l1),
            loss_cls=dict(
                type='mmdet.CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0
            ),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
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
        rpn_proposal=dict(
            nms_pre=9000, nms_post=512, max_num=512, nms_thr=0.8, score_thr=0, use_rotate_nms=True
        ),
        rcnn=dict(
            assigner=[
                dict(
                    type='Max3DIoUAssigner',
                    iou_calculator=dict(type='BboxOverlaps3D', coordinate='lidar'),
                    pos_iou_thr=0.55,
                    neg_iou_thr=0.55,
                    min_pos_iou=0.55,
                    ignore_iof_thr=-1,
                )
            ]
            * 3,
            sampler=dict(
                type='IoUNegPiecewiseSampler',
                num=128,
                pos_fraction=0.5,
                neg_piece_fractions=[0.8, 0.2],
                neg_iou_piece_thrs=[0.55, 0.1],
                neg_pos_ub=-1,
                add_gt_as_proposals=False,
                return_iou=True,
            ),
            cls_pos_thr=0.75,
            cls_neg_thr=0.25,
        ),
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=1024, nms_post=100, max_num=100, nms_thr=0.7, score_thr=0, use_rotate_nms=True
        ),
        rcnn=dict(use_rotate_nms=True, use_raw_score=True, nms_thr=0.1, score_thr=0.1),
    ),
)
