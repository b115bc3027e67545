# Labelled people alone: the network, data and schedule of the other configs.
_base_ = ['./trs_hrnet-tiny_people.py']
trs = _base_.model
model = dict(_delete_=True, type='mmdistill.SemiPose', estimator=trs.estimator)
train_dataloader = dict(batch_size=16, sampler=dict(batch_size=16, ratios=(1, 0)))
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.LabeledInstancesHook'),
    dict(
        type='mmdistill.TeacherUpdateHook',
        momentum=dict(
            type='mmdistill.LinearRampMomentum', keep_init=0.9, keep_final=0.99, ramp_iters=200
        ),
        buffers='ema',
    ),
]
val_cfg = dict(type='mmdistill.TeacherStudentValLoop', branches=('student', 'teacher'))
