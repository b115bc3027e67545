# Labelled streets of the game alone: the network, data and schedule of the other configs.
_base_ = ['./fst-d_resnet-tiny_streets.py']
segmentor = _base_.model.segmentor
model = dict(_delete_=True, type='mmdistill.SemiSeg', segmentor=segmentor)
train_dataloader = dict(batch_size=4, sampler=dict(batch_size=4, ratios=(1, 0)))
custom_hooks = [dict(type='mmdistill.PreemptHook')]
val_cfg = dict(branches=('student',))
