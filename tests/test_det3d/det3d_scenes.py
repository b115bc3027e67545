"""Small scenes, a tiny PointPillars and a scripted perfect teacher, shared by the det3d tests.

The perfect teacher knows nothing but the points it is given: every object carries three marker
points (centre of the bottom, middle of the front, upper left edge) whose intensity names object
and role. Reading the box from them commutes with every flip, rotation and scaling, so the
teacher is equivariant by construction.
"""

import logging
import math

import numpy as np
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

CLASSES = ['Pedestrian', 'Cyclist', 'Car']
RANGE = [0.0, -12.8, -3.0, 25.6, 12.8, 1.0]
SIZES = [[0.8, 0.6, 1.73], [1.76, 0.6, 1.73], [3.9, 1.6, 1.56]]
VOXEL = [0.4, 0.4, 4.0]
GROUND = -1.7


def pointpillars(head='Anchor3DHead', rows=64, columns=64, **head_cfg):
    """A PointPillars that takes milliseconds; its head is the stock one unless named."""
    point_range = [0.0, -rows * 0.2, -3.0, columns * 0.4, rows * 0.2, 1.0]
    matches = ((0.5, 0.35), (0.5, 0.35), (0.6, 0.45))
    return dict(
        type='mmdet3d.VoxelNet',
        data_preprocessor=dict(
            type='mmdet3d.Det3DDataPreprocessor',
            voxel=True,
            voxel_layer=dict(
                max_num_points=8,
                point_cloud_range=point_range,
                voxel_size=VOXEL,
                max_voxels=(4096, 4096),
            ),
        ),
        voxel_encoder=dict(
            type='mmdet3d.PillarFeatureNet',
            in_channels=4,
            feat_channels=[8],
            voxel_size=VOXEL,
            point_cloud_range=point_range,
        ),
        middle_encoder=dict(
            type='mmdet3d.PointPillarsScatter', in_channels=8, output_shape=[rows, columns]
        ),
        backbone=dict(
            type='mmdet3d.SECOND',
            in_channels=8,
            layer_nums=[1, 1],
            layer_strides=[2, 2],
            out_channels=[8, 16],
        ),
        neck=dict(
            type='mmdet3d.SECONDFPN',
            in_channels=[8, 16],
            upsample_strides=[1, 2],
            out_channels=[8, 8],
        ),
        bbox_head=dict(
            type=head,
            num_classes=3,
            in_channels=16,
            feat_channels=16,
            use_direction_classifier=True,
            assign_per_class=True,
            anchor_generator=dict(
                type='mmdet3d.AlignedAnchor3DRangeGenerator',
                ranges=[[*point_range[:2], GROUND, *point_range[3:5], GROUND]] * 3,
                sizes=SIZES,
                rotations=[0, 1.57],
                reshape_out=False,
            ),
            diff_rad_by_sin=True,
            bbox_coder=dict(type='mmdet3d.DeltaXYZWLHRBBoxCoder'),
            loss_cls=dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25),
            loss_bbox=dict(type='mmdet.SmoothL1Loss', beta=1.0 / 9.0, loss_weight=2.0),
            loss_dir=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=False, loss_weight=0.2),
            **head_cfg,
        ),
        train_cfg=dict(
            assigner=[
                dict(
                    type='mmdet3d.Max3DIoUAssigner',
                    iou_calculator=dict(type='mmdet3d.BboxOverlapsNearest3D'),
                    pos_iou_thr=positive,
                    neg_iou_thr=negative,
                    min_pos_iou=negative,
                    ignore_iof_thr=-1,
                )
                for positive, negative in matches
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
            nms_pre=100,
            max_num=50,
        ),
    )


def hssda_cfg(**changes):
    """An HSSDA config around the tiny detector; keywords replace entries."""
    cfg = dict(
        type='mmdistill.HSSDA',
        detector=pointpillars(),
        class_names=CLASSES,
        student_view=dict(flip_prob=0.5, rotation=(-0.785, 0.785), scale=(0.95, 1.05)),
        shuffle=dict(grid=(2, 2), unshuffle_at='neck'),
    )
    return {**cfg, **changes}


def initialised(model):
    """The model with initial weights, in training mode, without mmengine's report of them."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    model.init_weights()
    logger.setLevel(level)
    return model.train()


def box_row(x, y, label=2, yaw=0.3, z=GROUND):
    """One box of the class's usual size."""
    dx, dy, dz = SIZES[label]
    return [x, y, z, dx, dy, dz, yaw]


def boxes_of(rows):
    """(N, 7) boxes and (N,) labels from ``(x, y, label[, yaw])`` rows."""
    table = [box_row(*row) for row in rows]
    labels = [row[2] if len(row) > 2 else 2 for row in rows]
    return torch.tensor(table).reshape(-1, 7), torch.tensor(labels, dtype=torch.long)


def markers(boxes, labels, first=1):
    """(3 N, 4) marker points of boxes; objects are numbered from ``first``."""
    rows = []
    for number, (box, label) in enumerate(zip(boxes.tolist(), labels.tolist(), strict=True)):
        x, y, z, dx, dy, dz, yaw = box
        code = 16 * (3 * (number + first) + label)
        cos, sin = math.cos(yaw), math.sin(yaw)
        rows.append([x, y, z, code])
        rows.append([x + cos * dx / 2, y + sin * dx / 2, z, code + 1])
        rows.append([x - sin * dy / 2, y + cos * dy / 2, z + dz, code + 2])
    return torch.tensor(rows).reshape(-1, 4)


def cloud(boxes, labels, seed=0, per_box=20, ground=400, point_range=RANGE, first=1):
    """(P, 4) points: ground, points well inside each box, markers."""
    rng = np.random.default_rng(seed)
    low, high = point_range[:2], point_range[3:5]
    flat = rng.uniform([*low, GROUND - 0.1, 0], [*high, GROUND - 0.01, 1], (ground, 4))
    parts = [torch.tensor(flat, dtype=torch.float32)]
    for box in boxes:
        inner = torch.tensor(rng.uniform(-0.45, 0.45, (per_box, 3)), dtype=torch.float32)
        inner *= box[3:6]
        cos, sin = box[6].cos(), box[6].sin()
        x = inner[:, 0] * cos - inner[:, 1] * sin + box[0]
        y = inner[:, 0] * sin + inner[:, 1] * cos + box[1]
        z = inner[:, 2] + box[2] + box[5] / 2
        parts.append(torch.stack([x, y, z, torch.full_like(x, 0.5)], 1))
    return torch.cat([*parts, markers(boxes, labels, first)])


def sample(frame, boxes=None, labels=None, labeled=True, hidden=None, plane=None):
    """A data sample as the semi-supervised pipeline makes it."""
    if boxes is None:
        boxes, labels = boxes_of([])
    meta = dict(sample_idx=frame, labeled=labeled, hidden=hidden, plane=plane)
    made = Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes))
    made.set_metainfo(meta)
    instances = InstanceData()
    instances.bboxes_3d = LiDARInstance3DBoxes(boxes)
    instances.labels_3d = labels
    made.gt_instances_3d = instances
    return made


def batch_of(*scenes):
    """``inputs`` and ``data_samples`` from ``(frame, rows, labeled)`` scenes.

    Objects of unlabelled scenes stand in the points only.
    """
    points, samples = [], []
    for frame, rows, labeled in scenes:
        boxes, labels = boxes_of(rows)
        points.append(cloud(boxes, labels, seed=frame))
        truth = (boxes, labels) if labeled else boxes_of([])
        samples.append(sample(frame, *truth, labeled=labeled))
    return dict(points=points), samples


class PerfectTeacher:
    """Reads the boxes from the markers; takes the place of a detector's ``predict``.

    Args:
        score: function of (object number, label) that gives the score, or a number.
        shift: metres added to y of every answer, in the view's own coordinates.
    """

    def __init__(self, score=0.9, shift=0.0):
        self.score = score if callable(score) else lambda number, label: score
        self.shift = shift
        self.calls = 0

    def __call__(self, inputs, data_samples, **kwargs):
        self.calls += 1
        for points, data_sample in zip(inputs['points'], data_samples, strict=True):
            data_sample.pred_instances_3d = self.read(points)
        return data_samples

    def read(self, points):
        """Instances of one cloud."""
        marked = points[points[:, 3] > 15]
        code = marked[:, 3].round().long()
        places = {int(c): xyz for c, xyz in zip(code, marked[:, :3], strict=True)}
        boxes, labels, scores = [], [], []
        for key in sorted({c // 16 for c in places}):
            if not all(16 * key + role in places for role in range(3)):
                continue
            center, front, left = (places[16 * key + role] for role in range(3))
            ahead, aside = (front - center)[:2], (left - center)[:2]
            boxes.append(
                [
                    float(center[0]),
                    float(center[1]) + self.shift,
                    float(center[2]),
                    2 * float(ahead.norm()),
                    2 * float(aside.norm()),
                    float(left[2] - center[2]),
                    math.atan2(ahead[1], ahead[0]),
                ]
            )
            labels.append(key % 3)
            scores.append(float(self.score(key // 3, key % 3)))
        instances = InstanceData()
        table = torch.tensor(boxes, dtype=points.dtype).reshape(-1, 7)
        instances.bboxes_3d = LiDARInstance3DBoxes(table)
        instances.labels_3d = torch.tensor(labels, dtype=torch.long)
        instances.scores_3d = torch.tensor(scores, dtype=points.dtype)
        return instances


def angle_gap(a, b):
    """Distance of angles modulo a full turn."""
    return ((a - b + math.pi) % (2 * math.pi) - math.pi).abs()


def second(rows=128, columns=128, **head_cfg):
    """A SECOND on 0.1 m voxels, stride 8; needs spconv on the CPU."""
    point_range = [0.0, -rows * 0.05, -3.0, columns * 0.1, rows * 0.05, 1.0]
    voxel = [0.1, 0.1, 0.1]
    cfg = pointpillars(rows=rows // 4, columns=columns // 4, **head_cfg)
    cfg['data_preprocessor']['voxel_layer'].update(
        max_num_points=5, point_cloud_range=point_range, voxel_size=voxel
    )
    cfg['voxel_encoder'] = dict(type='mmdet3d.HardSimpleVFE', num_features=4)
    cfg['middle_encoder'] = dict(
        type='mmdet3d.SparseEncoder',
        in_channels=4,
        sparse_shape=[41, rows, columns],
        order=('conv', 'norm', 'act'),
        base_channels=4,
        output_channels=8,
        encoder_channels=((4,), (8, 8), (8, 8), (8, 8)),
        encoder_paddings=((0,), (1, 1), (1, 1), ((0, 1, 1), 1)),
    )
    cfg['backbone'].update(in_channels=16, layer_strides=[1, 2])
    return cfg


LABELLED = [0, 7, 1, 11]
"""Labelled frames of the tiny tree by ``train_4_1.txt``."""


def load_points():
    """The loading transform."""
    return dict(type='mmdistill.LoadLiDARPoints', coord_type='LIDAR', load_dim=4, use_dim=4)


def read_pipeline():
    """What the semi-supervised configs do to a frame: read it."""
    return [
        load_points(),
        dict(type='mmdet3d.LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
        dict(
            type='mmdet3d.Pack3DDetInputs',
            keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'],
            meta_keys=('sample_idx', 'labeled', 'hidden', 'plane', 'lidar_path'),
        ),
    ]


def kitti_cfg(root, **changes):
    """Config of the host's KITTI dataset on a tree."""
    cfg = dict(
        type='mmdet3d.KittiDataset',
        data_root=str(root),
        ann_file='kitti_infos_train.pkl',
        data_prefix=dict(pts='training/velodyne_reduced'),
        modality=dict(use_lidar=True, use_camera=False),
        metainfo=dict(classes=CLASSES),
        box_type_3d='LiDAR',
    )
    return {**cfg, **changes}


def semi_cfg(root, split='train_4_1.txt', pipeline=None, **changes):
    """Config of the semi-supervised dataset on a tree."""
    cfg = dict(
        type='mmdistill.SemiDet3DDataset',
        dataset=kitti_cfg(root),
        split_file=f'{root}/ImageSets_semi/{split}',
        pipeline=read_pipeline() if pipeline is None else pipeline,
    )
    return {**cfg, **changes}
