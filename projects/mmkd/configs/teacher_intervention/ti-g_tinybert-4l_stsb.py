# TinyBERT, 4 layers of width 312 with 12 heads, on STS-B; see ti-g_bert-base_stsb.py.
_base_ = ['../_base_/glue_stsb.py']
first_iters = 120
model = dict(
    teacher=dict(
        _base_.network, pretrained='{{$MMDISTILL_CKPT:work_dirs}}/teacher_tinybert-4l_stsb'
    ),
    intervention_steps=first_iters,
)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=12),
    dict(_base_.param_scheduler[1], begin=12, end=first_iters),
]
train_cfg = dict(
    first_iters=first_iters,
    second_scheduler=[
        dict(_base_.train_cfg.second_scheduler[0], end=42),
        dict(_base_.train_cfg.second_scheduler[1], begin=42, end=420),
    ],
)
