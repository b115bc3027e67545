# A ratio per sample where teacher and inputs are spoilt; the held-out digits are not.
_base_ = ['./tgeo-kd_mlp_digits.py']
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
