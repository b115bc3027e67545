# One teacher, who explains every step.
_base_ = ['../_base_/orca_world.py']
train_dataloader = dict(
    dataset=dict(
        stages=[
            dict(
                name='strong',
                dataset=dict(_base_.packs, persona='strong', count=8000),
                epochs=4,
            )
        ]
    )
)
