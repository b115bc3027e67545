# Heads that take the place of DeepLabV3+'s on the same ResNet-101.
head = dict(
    in_channels=2048,
    in_index=3,
    num_classes=21,
    align_corners=True,
    loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=1.0),
)
dlv2_head = dict(type='mmdistill.DLV2Head', dilations=(6, 12, 18, 24), **head)
psp_head = dict(
    type='PSPHead',
    channels=512,
    pool_scales=(1, 2, 3, 6),
    dropout_ratio=0.1,
    norm_cfg=dict(type='BN', requires_grad=True),
    **head,
)
