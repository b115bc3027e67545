# DualPose (arXiv:2011.12498): two networks, each learns from the other's easy view.
_base_ = ['./posecons_hrnet-tiny_people.py']
model = dict(teacher=dict(mode='grad', mutual=True))
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.LabeledInstancesHook'),
    dict(
        type='mmdistill.UnsupWeightRampHook', begin=250, ramp_iters=100, weight=2.0, shape='linear'
    ),
    dict(type='mmdistill.PseudoQualityHook', interval=50),
    dict(type='mmdistill.CollapseAlarmHook', interval=50, begin=300),
]
