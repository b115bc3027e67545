# Labelled people alone: the network, data and schedule of the other configs.
_base_ = ['./trs_hrnet-tiny_people.py']
trs = _base_.model
model = dict(_delete_=True, type='mmdistill.SemiPose', estimator=trs.estimator)
train_dataloader = dict(batch_size=16, sampler=dict(batch_size=16, ratios=(1, 0)))
custom_hooks = _base_.custom_hooks[:3]
val_cfg = dict(branches=('student', 'teacher'))
