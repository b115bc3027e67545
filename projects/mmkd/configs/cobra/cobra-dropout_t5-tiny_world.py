# One student for both: every third frame comes without its context.
_base_ = ['../_base_/cobra_world.py']
train_dataloader = dict(dataset=dict(context_dropout=0.33))
