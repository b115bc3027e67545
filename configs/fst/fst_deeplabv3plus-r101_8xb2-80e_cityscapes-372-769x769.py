# FST, DeepLabV3+ with ResNet-101, 372 labelled images of Cityscapes: a pass has 162 batches.
_base_ = ['./fst_deeplabv3plus-r101_8xb2-80e_cityscapes-744-769x769.py']
train_dataloader = _base_.train_dataloader
labeled, unlabeled = train_dataloader.dataset.datasets
labeled.ann_file = 'u2pl_372/labeled.txt'
unlabeled.dataset.ann_file = 'u2pl_372/unlabeled.txt'
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=12961, by_epoch=False)]
train_cfg = dict(max_iters=12960, val_interval=162)
default_hooks = dict(checkpoint=dict(interval=162))
