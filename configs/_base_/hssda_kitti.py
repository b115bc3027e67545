# HSSDA on KITTI with the official schedule, views, rounds and pasted objects; a config adds the
# detector, its scores and its place of unshuffling to ``_base_.hssda``.
_base_ = [
    './datasets/kitti-3d-3class-semi.py',
    './schedules/one-cycle_80e.py',
    './hssda_epochs.py',
]
hssda = dict(
    type='mmdistill.HSSDA',
    class_names=_base_.class_names,
    student_view=dict(flip_prob=0.5, rotation=(-0.785, 0.785), scale=(0.95, 1.05)),
    teacher_view=dict(flip_prob=1.0, rotation=(-0.785, 0.785), scale=(0.91, 1.12)),
    object_bank=dict(
        sample_groups=dict(Car=15, Pedestrian=10, Cyclist=10), min_points=5, use_ground_plane=True
    ),
)
