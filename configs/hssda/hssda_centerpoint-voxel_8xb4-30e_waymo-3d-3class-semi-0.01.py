# HSSDA on Waymo with 1 % of the labels, whole sequences. Schedule, range, voxels and pasted objects
# are those of the official PV-RCNN config; detector, batch and mining interval are ours.
_base_ = [
    '../_base_/models/centerpoint-voxel_waymo.py',
    '../_base_/datasets/waymo-3d-3class-semi.py',
    '../_base_/schedules/one-cycle_30e.py',
    '../_base_/hssda_epochs.py',
]
load_from = 'work_dirs/burn-in_centerpoint-voxel_8xb4-30e_waymo-3d-3class-semi-0.01/epoch_30.pth'

detector = _base_.model
model = dict(
    _delete_=True,
    type='mmdistill.HSSDA',
    detector=detector,
    class_names=_base_.class_names,
    student_view=dict(
        flip_prob=0.5, vertical_flip_prob=0.5, rotation=(-0.785, 0.785), scale=(0.95, 1.05)
    ),
    teacher_view=dict(flip_prob=1.0, rotation=(-0.785, 0.785), scale=(0.91, 1.12)),
    object_bank=dict(sample_groups=dict(Car=25, Pedestrian=20, Cyclist=20), min_points=5),
    scores=('heatmap_peak', 'view_iou'),
    thresholds=dict(init=dict(heatmap_peak=0.99, view_iou=0.93)),
    shuffle=dict(grid=(2, 2), unshuffle_at='middle_encoder'),
    teacher_test_cfg=dict(score_threshold=0.1),
    head_cfg=dict(normalizer='count'),
)
