# FST-D for domain adaptation with the values of its published code, and the training around it; a
# config adds network and data and takes ``_base_.fst``.
_base_ = ['./schedules/adamw_40000it_uda.py', './seg_runtime.py']
fst = dict(
    type='mmdistill.FST',
    policy='official_d',
    depth=3,
    keep=0.999,
    mix=dict(type='mmdistill.ClassMix', scope='batch', include_ignore=True),
    strong=dict(
        type='mmdistill.StrongPhotometric',
        strength=0.2,
        jitter_probability=0.8,
        blur_probability=0.5,
    ),
    pseudo=dict(rule='share', threshold=0.968, top_rows=15, bottom_rows=120),
    feature_distance=dict(loss_weight=0.005, min_share=0.75),
    pseudo_bn='batch',
    weight_auxiliary=False,
)
env_cfg = dict(cudnn_benchmark=True)
default_hooks = dict(checkpoint=dict(interval=2000, save_best='student/mIoU'))
