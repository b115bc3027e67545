# HSSDA on nuScenes with 5 % of the labels, whole sequences. The paper has no nuScenes: schedule,
# student view and pasted objects are mmdet3d's for CenterPoint, the rest is as on KITTI.
_base_ = [
    '../_base_/models/centerpoint_nuscenes.py',
    '../_base_/datasets/nuscenes-3d-semi.py',
    '../_base_/schedules/one-cycle_20e.py',
    '../_base_/hssda_epochs.py',
]
load_from = 'work_dirs/burn-in_centerpoint_8xb4-20e_nuscenes-3d-10class-semi-0.05/epoch_20.pth'

detector = _base_.model
model = dict(
    _delete_=True,
    type='mmdistill.HSSDA',
    detector=detector,
    class_names=_base_.class_names,
    student_view=dict(
        flip_prob=0.5, vertical_flip_prob=0.5, rotation=(-0.3925, 0.3925), scale=(0.95, 1.05)
    ),
    teacher_view=dict(flip_prob=1.0, rotation=(-0.785, 0.785), scale=(0.91, 1.12)),
    object_bank=dict(
        sample_groups=dict(
            car=2,
            truck=3,
            construction_vehicle=7,
            bus=4,
            trailer=6,
            barrier=2,
            motorcycle=6,
            bicycle=6,
            pedestrian=2,
            traffic_cone=2,
        ),
        min_points=5,
    ),
    scores=('heatmap_peak', 'view_iou'),
    thresholds=dict(init=dict(heatmap_peak=0.99, view_iou=0.93)),
    shuffle=dict(grid=(2, 2), unshuffle_at='neck'),
    teacher_test_cfg=dict(score_threshold=0.1),
    head_cfg=dict(normalizer='count'),
)
