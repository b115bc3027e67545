# CIFAR-10 as published, whitened, in memory; a fiftieth of the training images is held out:
# synthetic images are chosen by it, and experts do not learn it.
data_root = '{{$MMDISTILL_DATA:data}}/'
# whitening is that of pixels in [0, 1]
pixels = dict(mean=(0, 0, 0), std=(255, 255, 255))
images = dict(type='mmkd.CifarDataset', data_root=data_root, name='cifar10', **pixels)
whole = dict(images, split='train')
split = dict(type='mmkd.SplitDataset', dataset=whole, share=0.02)
zca = dict(fit=dict(split, part='train'), eps=0.1, cache='work_dirs/zca/cifar10.npz')
real_train = dict(type='mmkd.PreparedImages', dataset=dict(split, part='train'), zca=zca)
real_held_out = dict(type='mmkd.PreparedImages', dataset=dict(split, part='meta'), zca=zca)
real_test = dict(type='mmkd.PreparedImages', dataset=dict(images, split='test'), zca=zca)
network = dict(
    type='mmkd.CondensationNet',
    name='ConvNet',
    num_classes=10,
)
