# 5000 images of CIFAR-10 to train with, a tenth of them held out, 2000 to test; whitened, in
# memory. The network is an eighth as wide as usual.
data_root = '{{$MMDISTILL_DATA:data}}/'
# whitening is that of pixels in [0, 1]
pixels = dict(mean=(0, 0, 0), std=(255, 255, 255))
images = dict(type='mmkd.ImageDataset', data_root=data_root, path='cifar10_subset.zip', **pixels)
whole = dict(images, split='train', per_class=500)
split = dict(type='mmkd.SplitDataset', dataset=whole, share=0.1)
zca = dict(fit=dict(split, part='train'), eps=0.1, cache='work_dirs/zca/cifar10_subset.npz')
real_train = dict(type='mmkd.PreparedImages', dataset=dict(split, part='train'), zca=zca)
real_held_out = dict(type='mmkd.PreparedImages', dataset=dict(split, part='meta'), zca=zca)
real_test = dict(type='mmkd.PreparedImages', dataset=dict(images, split='test'), zca=zca)
network = dict(
    type='mmkd.CondensationNet',
    name='ConvNet',
    num_classes=10,
    width=16,
)
