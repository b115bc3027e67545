# A student that reads statements alone; what it learns to write still depends on contexts.
_base_ = ['../_base_/cobra_world.py']
train_dataloader = dict(dataset=dict(context='none'))
val_dataloader = dict(dataset=dict(context='none'))
test_dataloader = dict(dataset=dict(context='none'))
