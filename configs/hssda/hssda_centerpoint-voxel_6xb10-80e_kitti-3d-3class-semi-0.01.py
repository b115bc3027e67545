# HSSDA on KITTI with 1 % of the labels, the paper's schedule (6 GPUs x 10 scenes, 80 epochs).
_base_ = ['../_base_/models/centerpoint-voxel_kitti.py', '../_base_/hssda_kitti.py']
load_from = 'work_dirs/burn-in_centerpoint-voxel_1xb8-80e_kitti-3d-3class-semi-0.01/epoch_80.pth'

detector = _base_.model
model = dict(
    _delete_=True,
    **_base_.hssda,
    detector=detector,
    scores=('heatmap_peak', 'view_iou'),
    thresholds=dict(init=dict(heatmap_peak=0.99, view_iou=0.93)),
    # The official code gives pedestrians no soft labels on KITTI; the paper does not say so.
    ambiguous=dict(exclude_classes=('Pedestrian',)),
    shuffle=dict(grid=(2, 2), unshuffle_at='middle_encoder'),
    teacher_test_cfg=dict(score_threshold=0.1, nms_thr=0.1, post_max_size=100),
    head_cfg=dict(normalizer='count'),
)
