# One teacher, who tells the answer alone.
_base_ = ['../_base_/orca_world.py']
train_dataloader = dict(
    dataset=dict(
        stages=[
            dict(
                name='answer',
                dataset=dict(_base_.packs, persona='answer', count=8000),
                epochs=4,
            )
        ]
    )
)
