# UPerNet (arXiv:1807.10221) on Swin-B with weights of ImageNet-22k: mmseg's network with a batch
# norm that needs no other rank, 19 classes and the base size.
_base_ = ['mmseg::_base_/models/upernet_swin.py']
norm_cfg = dict(type='BN', requires_grad=True)
weights = (
    'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/swin/'
    'swin_base_patch4_window12_384_22k_20220317-e5c09f74.pth'
)
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        pretrain_img_size=384,
        embed_dims=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=12,
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=weights),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024], num_classes=19, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=512, num_classes=19, norm_cfg=norm_cfg),
)
