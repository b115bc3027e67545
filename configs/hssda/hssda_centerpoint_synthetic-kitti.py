# HSSDA from the burn-in, with a small CenterPoint on pillars.
_base_ = ['../_base_/models/centerpoint_tiny.py', '../_base_/hssda_synthetic-kitti.py']
load_from = 'work_dirs/burn-in_centerpoint_synthetic-kitti/iter_900.pth'

detector = _base_.model
model = dict(
    _delete_=True,
    **_base_.hssda,
    detector=detector,
    scores=('heatmap_peak', 'view_iou'),
    # One round instead of the paper's many, and pools of a dozen objects per class.
    thresholds=dict(init=dict(heatmap_peak=0.99, view_iou=0.93), high_at='boundary'),
    # 450 steps are too few to learn every patch at every place: shuffle one scene in four.
    shuffle=dict(grid=(2, 2), unshuffle_at='neck', prob=0.25),
    teacher_test_cfg=dict(score_threshold=0.05, nms_thr=0.1, post_max_size=60),
    head_cfg=dict(normalizer='count'),
)
