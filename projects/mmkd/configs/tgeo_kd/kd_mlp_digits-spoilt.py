# A fifth of the training inputs is noise, and the teacher is wrong about a third of all samples.
_base_ = ['./kd_mlp_digits.py']
model = dict(teacher=dict(checkpoint='work_dirs/teacher_mlp_digits-spoilt/iter_600.pth'))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmkd.Corrupted',
        dataset=dict(_base_.split, part='train'),
        share=0.2,
        kind='inputs',
        seed=1,
    )
)
