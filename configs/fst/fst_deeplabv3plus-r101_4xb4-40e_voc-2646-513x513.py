# FST, DeepLabV3+ with ResNet-101, 2646 labelled images of VOC: a pass has 496 batches.
_base_ = ['./fst_deeplabv3plus-r101_4xb4-40e_voc-662-513x513.py']
train_dataloader = _base_.train_dataloader
labeled, unlabeled = train_dataloader.dataset.datasets
labeled.ann_file = 'u2pl_2646/labeled.txt'
unlabeled.dataset.ann_file = 'u2pl_2646/unlabeled.txt'
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=19841, by_epoch=False)]
train_cfg = dict(max_iters=19840, val_interval=496)
default_hooks = dict(checkpoint=dict(interval=496))
