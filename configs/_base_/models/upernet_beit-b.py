# UPerNet on BEiT-B (arXiv:2106.08254), trained on ImageNet-22k: mmseg's network with a batch norm
# that needs no other rank and 19 classes. mmseg hosts no weights of BEiT: convert the published
# file with its tools/model_converters/beit2mmseg.py.
_base_ = ['mmseg::_base_/models/upernet_beit.py']
norm_cfg = dict(type='BN', requires_grad=True)
weights = 'pretrain/beit_base_patch16_224_pt22k_ft22k.pth'
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(
        img_size=(640, 640),
        drop_path_rate=0.1,
        init_values=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=weights),
    ),
    neck=dict(norm_cfg=norm_cfg),
    decode_head=dict(num_classes=19, norm_cfg=norm_cfg),
    auxiliary_head=dict(num_classes=19, norm_cfg=norm_cfg),
    test_cfg=dict(_delete_=True, mode='slide', crop_size=(640, 640), stride=(426, 426)),
)
