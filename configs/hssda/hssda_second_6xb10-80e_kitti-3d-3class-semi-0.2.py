# HSSDA on KITTI with 20 % of the labels.
_base_ = ['./hssda_second_6xb10-80e_kitti-3d-3class-semi-0.01.py']
load_from = 'work_dirs/burn-in_second_1xb8-80e_kitti-3d-3class-semi-0.2/epoch_80.pth'
split_file = 'data/kitti/ImageSets_semi/train_0.2_1.txt'
train_dataloader = dict(dataset=dict(split_file=split_file))
