# Tiny ImageNet as folders tiny-imagenet/train/CLASS/ and val/CLASS/ of 64x64 images, whitened, in
# memory (5 GB); a fiftieth of the training images is held out.
data_root = '{{$MMDISTILL_DATA:data}}/'
# whitening is that of pixels in [0, 1]
pixels = dict(mean=(0, 0, 0), std=(255, 255, 255))
images = dict(type='mmkd.ImageDataset', data_root=data_root, path='tiny-imagenet', **pixels)
whole = dict(images, split='train')
split = dict(type='mmkd.SplitDataset', dataset=whole, share=0.02)
zca = dict(fit=dict(split, part='train'), eps=0.1, cache='work_dirs/zca/tiny_imagenet.npz')
real_train = dict(type='mmkd.PreparedImages', dataset=dict(split, part='train'), zca=zca)
real_held_out = dict(type='mmkd.PreparedImages', dataset=dict(split, part='meta'), zca=zca)
real_test = dict(type='mmkd.PreparedImages', dataset=dict(images, split='val'), zca=zca)
network = dict(
    type='mmkd.CondensationNet',
    name='ConvNet',
    num_classes=200,
    image_size=64,
    depth=4,
)
