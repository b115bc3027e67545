# Decoupled distillation (DKD), a peer. First: teacher_mlp_table.py.
_base_ = ['./kd_mlp_table.py']
model = dict(
    weighter=dict(_delete_=True, type='mmkd.ConstantWeighter', ratio=0.0),
    losses=[dict(type='mmkd.DKD', alpha=1.0, beta=8.0, warmup=0.1)],
)
