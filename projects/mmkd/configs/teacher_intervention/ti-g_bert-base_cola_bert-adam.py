# The published optimizer. It schedules by the updates of each tensor: values and outputs, which the
# interventions leave without gradient at first, warm up later than the rest.
_base_ = ['./ti-g_bert-base_cola.py']
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(
        type='mmkd.BertAdam',
        lr=2e-5,
        weight_decay=0.01,
        warmup=0.1,
        total_steps=_base_.first_iters,
    ),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = []
train_cfg = dict(second_scheduler=[], optimizer=dict(total_steps=1485))
