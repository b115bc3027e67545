# HSSDA on KITTI with 1 % of the labels: the paper's detector, scores and schedule (6 GPUs x 10
# scenes, 80 epochs).
_base_ = ['../_base_/models/pv_rcnn_kitti.py', '../_base_/hssda_kitti.py']
load_from = 'work_dirs/burn-in_pv-rcnn_1xb8-80e_kitti-3d-3class-semi-0.01/epoch_80.pth'

detector = _base_.model
model = dict(
    _delete_=True,
    **_base_.hssda,
    detector=detector,
    scores=('cls', 'objectness', 'view_iou'),
    thresholds=dict(init=dict(cls=0.99, objectness=0.95, view_iou=0.93)),
    match_iou=0.5,
    high=dict(min_points=6),
    # The official code gives pedestrians no soft labels on KITTI; the paper does not say so.
    ambiguous=dict(weight=('cls', 'objectness'), exclude_classes=('Pedestrian',)),
    low=dict(score_thr=0.1, before_nms=True),
    shuffle=dict(grid=(2, 2), unshuffle_at='middle_encoder'),
    teacher_test_cfg=dict(score_thr=0.1, nms_thr=0.1),
    head_cfg=dict(loss_norm='sample', weight_corner=False, weight_keypoints=False),
)
