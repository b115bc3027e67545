# Teacher, rounds and checkpoints of HSSDA by epochs, with the official numbers; of every data set.
_base_ = ['./det3d_runtime.py']
ema = dict(type='mmdistill.LinearRampMomentum', keep_final=0.9996, ramp_iters=2000)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.TeacherUpdateHook', momentum=ema, buffers='ema'),
    dict(type='mmdistill.ObjectBankHook'),
    dict(type='mmdistill.PseudoMiningHook', interval=5, by_epoch=True, num_workers=4),
    dict(type='mmdistill.PseudoQualityHook', interval=50),
]
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=5))
log_processor = dict(window_size=50, by_epoch=True)
