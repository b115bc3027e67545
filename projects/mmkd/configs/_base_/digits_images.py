# scikit-learn's digits as images of 8x8 pixels; nothing has to be downloaded. 500 test images; a
# tenth of the others is held out: synthetic images are chosen by it.
digits = dict(type='mmkd.DigitsDataset', test_share=0.278)
split = dict(type='mmkd.SplitDataset', dataset=dict(digits, split='train'), share=0.1)
real_train = dict(type='mmkd.PreparedImages', dataset=dict(split, part='train'))
real_held_out = dict(type='mmkd.PreparedImages', dataset=dict(split, part='meta'))
real_test = dict(type='mmkd.PreparedImages', dataset=dict(digits, split='test'))
network = dict(
    type='mmkd.CondensationNet',
    name='ConvNet',
    num_classes=10,
    image_size=8,
    in_channels=1,
    width=16,
    depth=2,
)
