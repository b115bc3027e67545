# The ablation: trained and tested without the context.
_base_ = ['./charm_flan-t5-xl.py']
train_dataloader = dict(dataset=dict(context='none'))
val_dataloader = dict(dataset=dict(context='none'))
test_dataloader = dict(dataset=dict(context='none'))
