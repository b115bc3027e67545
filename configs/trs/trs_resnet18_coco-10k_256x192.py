# TRS, 10000 labelled people of COCO: about 100 passes over train2017 on 4 GPUs, as MultiAugs.
_base_ = ['./trs_resnet18_coco-1k_256x192.py']
train_dataloader = dict(dataset=dict(labeled=dict(indices=10000)))
train_cfg = dict(max_iters=117000, val_interval=9000)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[78000, 97000], gamma=0.1, by_epoch=False),
]
