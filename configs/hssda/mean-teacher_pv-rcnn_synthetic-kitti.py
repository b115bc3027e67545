# Mean teacher with one fixed score threshold, everything else as in HSSDA.
_base_ = ['./hssda_pv-rcnn_synthetic-kitti.py']

hssda = _base_.model
model = dict(
    _delete_=True,
    type='mmdistill.MeanTeacher3D',
    detector=hssda.detector,
    class_names=hssda.class_names,
    student_view=hssda.student_view,
    object_bank=hssda.object_bank,
    head_cfg=hssda.head_cfg,
    pseudo_filter=dict(type='mmdistill.ScoreFilter', score_thr=0.3),
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.TeacherUpdateHook', momentum=_base_.ema, buffers='ema'),
    dict(type='mmdistill.ObjectBankHook'),
    dict(type='mmdistill.PseudoQualityHook', interval=20),
]
