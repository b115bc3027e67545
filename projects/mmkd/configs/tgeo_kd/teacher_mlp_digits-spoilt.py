# A teacher that is wrong about a third of its training samples: their labels were.
_base_ = ['./teacher_mlp_digits.py']
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmkd.Corrupted',
        dataset=dict(_base_.split, part='train'),
        share=0.3,
        kind='labels',
        seed=0,
    )
)
