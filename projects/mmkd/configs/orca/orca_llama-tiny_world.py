# The terse teacher first, then the one that explains every step.
_base_ = ['../_base_/orca_world.py']
train_dataloader = dict(
    dataset=dict(
        stages=[
            dict(
                name='intermediate',
                dataset=dict(_base_.packs, persona='intermediate', count=8000, stage=0),
                epochs=2,
            ),
            dict(
                name='strong',
                dataset=dict(_base_.packs, persona='strong', count=8000, stage=1),
                epochs=2,
            ),
        ]
    )
)
train_cfg = dict(stages=[dict(name='intermediate'), dict(name='strong')])
