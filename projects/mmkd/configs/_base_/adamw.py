# AdamW with decay of the matrices alone. Published results are BertAdam's, which has no bias
# correction, clips tensor by tensor and keeps its own clock: see ti-g_bert-base_cola_bert-adam.py.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
