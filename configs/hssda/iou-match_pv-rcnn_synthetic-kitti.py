# The filter of 3DIoUMatch (CVPR 2021, arXiv:2012.04355) with its thresholds for KITTI; detector,
# data, views and schedule are those of HSSDA, not of that paper.
_base_ = ['./mean-teacher_pv-rcnn_synthetic-kitti.py']

model = dict(
    pseudo_filter=dict(
        _delete_=True,
        type='mmdistill.NamedScoresFilter',
        class_names=_base_.class_names,
        # The class confidence is the first stage's, the overlap the second's final score.
        score_thr=dict(objectness=0.4, predicted_iou=dict(Pedestrian=0.25, Cyclist=0.25, Car=0.5)),
    )
)
