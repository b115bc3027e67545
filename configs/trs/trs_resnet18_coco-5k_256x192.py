# TRS, 5000 labelled people of COCO: about 70 passes over train2017 on 4 GPUs, as MultiAugs.
_base_ = ['./trs_resnet18_coco-1k_256x192.py']
train_dataloader = dict(dataset=dict(labeled=dict(indices=5000)))
train_cfg = dict(max_iters=82000, val_interval=8200)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[55000, 68000], gamma=0.1, by_epoch=False),
]
