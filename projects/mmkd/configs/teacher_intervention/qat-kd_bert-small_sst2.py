# The baseline: as many steps of quantization-aware distillation without interventions.
_base_ = ['./ti-g_bert-small_sst2.py']
model = dict(schedule='none', intervention_steps=0)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=100, end=1000, by_epoch=False),
]
train_cfg = dict(_delete_=True, type='mmdistill.IterTrainLoop', max_iters=1000, val_interval=100)
