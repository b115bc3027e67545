# COCO with 5000 labelled people.
_base_ = ['coco-1k-semi.py']
train_dataloader = dict(dataset=dict(labeled=dict(indices=5000)))
