# 662 labelled images of VOC alone: network, steps and labelled images per step of the others.
_base_ = ['./fst_deeplabv3plus-r101_4xb4-40e_voc-662-513x513.py']
fst = _base_.model
model = dict(_delete_=True, type='mmdistill.SemiSeg', segmentor=fst.segmentor)
train_dataloader = dict(batch_size=4, sampler=dict(batch_size=4, ratios=(1, 0)))
custom_hooks = _base_.custom_hooks[:1]
val_cfg = dict(branches=('student',))
default_hooks = dict(checkpoint=dict(save_best='student/mIoU'))
auto_scale_lr = dict(base_batch_size=16)
