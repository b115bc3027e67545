# FST for semi-supervised segmentation with the values of its published code; a config adds network,
# data and schedule and takes ``_base_.fst``. The teacher is what is tested.
_base_ = ['./seg_runtime.py']
fst = dict(
    type='mmdistill.FST',
    policy='official_ssl',
    depth=3,
    keep=0.99,
    pseudo=dict(rule='entropy', drop_percent=80.0),
    joint_forward=True,
    pseudo_bn='running',
    unsup_loss='decode',
    semi_test_cfg=dict(predict_on='teacher'),
)
sync_bn = 'torch'
env_cfg = dict(cudnn_benchmark=True)
randomness = dict(seed=2)
default_hooks = dict(checkpoint=dict(save_best='teacher/mIoU'))
