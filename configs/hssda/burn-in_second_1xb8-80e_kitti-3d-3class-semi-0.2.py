# Supervised burn-in on 20 % of KITTI.
_base_ = ['./burn-in_second_1xb8-80e_kitti-3d-3class-semi-0.01.py']
split_file = 'data/kitti/ImageSets_semi/train_0.2_1.txt'
train_dataloader = dict(dataset=dict(dataset=dict(split_file=split_file)))
