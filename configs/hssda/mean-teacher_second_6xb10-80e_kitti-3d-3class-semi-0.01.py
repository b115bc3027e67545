# Mean teacher with one fixed score threshold on KITTI with 1 % of the labels, everything else as in
# HSSDA.
_base_ = ['./hssda_second_6xb10-80e_kitti-3d-3class-semi-0.01.py']

semi = _base_.model
model = dict(
    _delete_=True,
    type='mmdistill.MeanTeacher3D',
    detector=semi.detector,
    class_names=semi.class_names,
    student_view=semi.student_view,
    object_bank=semi.object_bank,
    teacher_test_cfg=semi.teacher_test_cfg,
    head_cfg=semi.head_cfg,
    pseudo_filter=dict(type='mmdistill.ScoreFilter', score_thr=0.3),
)
custom_hooks = [each for each in _base_.custom_hooks if each.type != 'mmdistill.PseudoMiningHook']
