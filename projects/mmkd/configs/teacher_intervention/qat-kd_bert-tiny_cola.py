# The baseline: as many steps of quantization-aware distillation without interventions.
_base_ = ['./ti-g_bert-tiny_cola.py']
model = dict(schedule='none', intervention_steps=0)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=160, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=160, end=1605, by_epoch=False),
]
train_cfg = dict(_delete_=True, type='mmdistill.IterTrainLoop', max_iters=1605, val_interval=50)
