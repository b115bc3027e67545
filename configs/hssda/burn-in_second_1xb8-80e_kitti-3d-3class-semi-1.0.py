# Supervised training on all of KITTI: what the other fractions are measured against. Frames stand
# once in an epoch, which is about as long as that with 20 % of the labels (ours).
_base_ = ['./burn-in_second_1xb8-80e_kitti-3d-3class-semi-0.01.py']
split_file = 'data/kitti/ImageSets_semi/train_3712_1.txt'
train_dataloader = dict(dataset=dict(times=1, dataset=dict(split_file=split_file)))
