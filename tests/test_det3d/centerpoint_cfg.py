"""CenterPoints that take milliseconds, on pillars and on voxels, with and without velocity."""

from det3d_scenes import CLASSES, hssda_cfg, pointpillars, second


def centerpoint(head='CenterHead', rows=64, columns=64, velocity=False, features=4, **head_cfg):
    """A CenterPoint on the pillars of the tiny PointPillars, cells of 0.8 m; stock head.

    Args:
        head: type of the head.
        rows: pillars along y.
        columns: pillars along x.
        velocity: boxes have 9 numbers.
        features: columns of a point.
        **head_cfg: further arguments of the head.
    """
    host = pointpillars(rows=rows, columns=columns)
    return _with_center_head(host, 2, head, velocity, features, head_cfg)


def centerpoint_voxel(
    head='CenterHead', rows=128, columns=128, velocity=False, features=4, **head_cfg
):
    """A CenterPoint on the voxels of the tiny SECOND, cells of 0.8 m; needs spconv on the CPU."""
    host = second(rows=rows, columns=columns)
    return _with_center_head(host, 8, head, velocity, features, head_cfg)


def _with_center_head(single_stage, stride, head, velocity, features, head_cfg):
    """A single-stage detector's config, its parts renamed and its head exchanged."""
    layer = single_stage['data_preprocessor']['voxel_layer']
    point_range, voxel = layer['point_cloud_range'], layer['voxel_size']
    cells = [round((point_range[i + 3] - point_range[i]) / voxel[i]) for i in range(3)]
    parts = ('voxel_encoder', 'middle_encoder', 'backbone', 'neck')
    cfg = {f'pts_{name}': single_stage[name] for name in parts}
    encoder = cfg['pts_voxel_encoder']
    encoder['num_features' if 'num_features' in encoder else 'in_channels'] = features
    if 'sparse_shape' in cfg['pts_middle_encoder']:
        cfg['pts_middle_encoder']['in_channels'] = features
    heads = dict(reg=(2, 1), height=(1, 1), dim=(3, 1), rot=(2, 1))
    if velocity:
        heads['vel'] = (2, 1)
    reach = [*point_range[:2], -10.0, *point_range[3:5], 10.0]
    return dict(
        type='mmdet3d.CenterPoint',
        data_preprocessor=single_stage['data_preprocessor'],
        **cfg,
        pts_bbox_head={
            **dict(
                type=head,
                in_channels=16,
                share_conv_channel=16,
                tasks=[dict(num_class=3, class_names=CLASSES)],
                common_heads=heads,
                bbox_coder=dict(
                    type='mmdet3d.CenterPointBBoxCoder',
                    pc_range=point_range,
                    out_size_factor=stride,
                    voxel_size=voxel,
                    post_center_range=reach,
                    max_num=50,
                    score_threshold=None,
                    code_size=9 if velocity else 7,
                ),
                separate_head=dict(
                    type='mmdet3d.SeparateHead', init_bias=-2.19, final_kernel=1, head_conv=16
                ),
                loss_cls=dict(type='mmdet.GaussianFocalLoss', reduction='mean'),
                loss_bbox=dict(type='mmdet.L1Loss', reduction='mean', loss_weight=0.25),
                num_heatmap_convs=1,
            ),
            **head_cfg,
        },
        train_cfg=dict(
            pts=dict(
                point_cloud_range=point_range,
                grid_size=cells,
                voxel_size=voxel,
                out_size_factor=stride,
                dense_reg=1,
                gaussian_overlap=0.1,
                max_objs=40,
                min_radius=1,
                code_weights=[1.0] * 8 + [0.2, 0.2] * velocity,
            )
        ),
        test_cfg=dict(
            pts=dict(
                post_center_limit_range=reach,
                score_threshold=0.1,
                nms_type='rotate',
                pre_max_size=100,
                post_max_size=50,
                nms_thr=0.1,
            )
        ),
    )


def center_hssda_cfg(**changes):
    """HSSDA around the tiny CenterPoint of 7 numbers; keywords replace entries."""
    cfg = dict(
        detector=centerpoint(),
        scores=('heatmap_peak', 'view_iou'),
        thresholds=dict(init=dict(heatmap_peak=0.99, view_iou=0.93)),
    )
    return hssda_cfg(**{**cfg, **changes})
