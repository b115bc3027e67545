# HSSDA from the burn-in, with a small PV-RCNN.
_base_ = ['../_base_/models/pv_rcnn_tiny.py', '../_base_/hssda_synthetic-kitti.py']
load_from = 'work_dirs/burn-in_pv-rcnn_synthetic-kitti/iter_900.pth'

detector = _base_.model
model = dict(
    _delete_=True,
    **_base_.hssda,
    detector=detector,
    scores=('cls', 'objectness', 'view_iou'),
    # One round instead of the paper's many, and pools of a dozen objects per class.
    thresholds=dict(init=dict(cls=0.99, objectness=0.95, view_iou=0.93), high_at='boundary'),
    ambiguous=dict(weight=('cls', 'objectness')),
    # 450 steps are too few to learn every patch at every place: shuffle one scene in four.
    shuffle=dict(grid=(2, 2), unshuffle_at='middle_encoder', prob=0.25),
    teacher_test_cfg=dict(score_thr=0.05, nms_thr=0.1),
    head_cfg=dict(loss_norm='sample'),
)
