# Mean teacher with one fixed score threshold, everything else as in HSSDA.
_base_ = ['./hssda_centerpoint_synthetic-kitti.py']

semi = _base_.model
model = dict(
    _delete_=True,
    type='mmdistill.MeanTeacher3D',
    detector=semi.detector,
    class_names=semi.class_names,
    student_view=semi.student_view,
    object_bank=semi.object_bank,
    head_cfg=semi.head_cfg,
    pseudo_filter=dict(type='mmdistill.ScoreFilter', score_thr=0.3),
)
custom_hooks = [each for each in _base_.custom_hooks if each.type != 'mmdistill.PseudoMiningHook']
