# 1000 labelled people of COCO alone: network, steps and labelled people per step of the others.
_base_ = ['./trs_resnet18_coco-1k_256x192.py']
trs = _base_.model
model = dict(_delete_=True, type='mmdistill.SemiPose', estimator=trs.estimator)
train_dataloader = dict(batch_size=32, sampler=dict(batch_size=32, ratios=(1, 0)))
custom_hooks = _base_.custom_hooks[:3]
val_cfg = dict(branches=('student', 'teacher'))
