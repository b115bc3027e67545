"""Heads of domain adaptation: published sizes, and logits against plain functions of tensors."""

import pytest
import torch
from torch.nn import functional as F

from mmdistill.core.errors import UserError
from mmdistill.registry import MODELS
from mmdistill.seg.daformer_head import DAFormerHead
from mmdistill.seg.dlv2_head import DLV2Head

pytestmark = pytest.mark.usefixtures('mmseg_scope')
RESNET = dict(
    type='ResNetV1c',
    depth=101,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    dilations=(1, 1, 2, 4),
    strides=(1, 2, 1, 1),
    norm_cfg=dict(type='BN', requires_grad=True),
    style='pytorch',
    contract_dilation=True,
)
MIT_B5 = dict(
    type='MixVisionTransformer',
    embed_dims=64,
    num_heads=[1, 2, 5, 8],
    num_layers=[3, 6, 40, 3],
    patch_sizes=[7, 3, 3, 3],
    sr_ratios=[8, 4, 2, 1],
)


def size(backbone, head):
    """Trainable numbers and tensors of a segmentor."""
    model = MODELS.build(dict(type='EncoderDecoder', backbone=backbone, decode_head=head))
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), len(parameters)


def test_deeplab_v2_on_resnet_101_has_the_published_size():
    head = dict(type='mmdistill.DLV2Head', in_channels=2048, num_classes=19)
    numel, tensors = size(RESNET, head)
    assert (round(numel / 1e6, 2), tensors) == (43.22, 322)


def test_daformer_on_mit_b5_has_the_published_size():
    numel, tensors = size(MIT_B5, dict(type='mmdistill.DAFormerHead', num_classes=19))
    assert (round(numel / 1e6, 1), tensors) == (85.2, 982)


def seeded(head, seed=0):
    """Gives a head random weights, statistics too, and evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in [*head.parameters(), *head.buffers()]:
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.1)
    return head.eval()


@pytest.mark.parametrize('dilations', [(1,), (6, 12), (6, 12, 18, 24)])
def test_deeplab_v2_is_a_sum_of_dilated_convolutions(dilations):
    head = seeded(DLV2Head(3, num_classes=5, dilations=dilations, in_index=1))
    features = [torch.zeros(2, 7, 8, 8), torch.randn(2, 3, 30, 20)]
    expected = torch.zeros(2, 5, 30, 20)
    for conv, d in zip(head.convs, dilations, strict=True):
        # nine shifted copies of the padded input, one for each weight
        padded = F.pad(features[1], [d] * 4)
        for y in range(3):
            for x in range(3):
                part = padded[:, :, y * d : y * d + 30, x * d : x * d + 20]
                expected += torch.einsum('bihw,oi->bohw', part, conv.weight[:, :, y, x])
        expected += conv.bias[None, :, None, None]
    torch.testing.assert_close(head(features), expected, atol=1e-4, rtol=1e-4)


def test_deeplab_v2_starts_small_and_without_bias():
    head = DLV2Head(512, num_classes=19)
    torch.manual_seed(0)
    head.init_weights()
    for conv in head.convs:
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert abs(conv.weight.mean().item()) < 2e-4 and not conv.bias.any()
    assert not [
        m for m in head.modules() if isinstance(m, (torch.nn.BatchNorm2d, torch.nn.Dropout2d))
    ]


@pytest.mark.parametrize('dilations', [(), (0,), (6.0,), (-6, 12)])
def test_deeplab_v2_refuses_dilations_that_are_none(dilations):
    with pytest.raises(UserError, match='dilations must be positive integers'):
        DLV2Head(3, num_classes=5, dilations=dilations)


def small_head(**options):
    """A DAFormer head for levels of 3 and 4 channels."""
    return DAFormerHead(
        (3, 4),
        num_classes=5,
        channels=6,
        embed_dims=2,
        dilations=(1, 2),
        in_index=(0, 1),
        **options,
    )


def test_daformer_computes_what_the_paper_says():
    head = seeded(small_head())
    fine, coarse = torch.randn(2, 3, 8, 12), torch.randn(2, 4, 4, 6)
    state = head.state_dict()

    def norm(x, name):
        keys = ('running_mean', 'running_var', 'weight', 'bias')
        return F.relu(F.batch_norm(x, *(state[f'fuse_layer.{name}.{key}'] for key in keys)))

    def linear(x, level):
        weight = state[f'embed_layers.{level}.proj.weight'][:, :, None, None]
        return F.conv2d(x, weight, state[f'embed_layers.{level}.proj.bias'])

    big = F.interpolate(linear(coarse, 1), (8, 12), mode='bilinear', align_corners=False)
    stacked = torch.cat([linear(fine, 0), big], 1)
    weight = {key: value for key, value in state.items() if key.endswith('conv.weight')}
    aspp = 'fuse_layer.aspp_modules.'
    one = norm(F.conv2d(stacked, weight[f'{aspp}0.conv.weight']), 'aspp_modules.0.bn')
    deep = F.conv2d(
        stacked, weight[f'{aspp}1.depthwise_conv.conv.weight'], padding=2, dilation=2, groups=4
    )
    deep = norm(deep, 'aspp_modules.1.depthwise_conv.bn')
    two = F.conv2d(deep, weight[f'{aspp}1.pointwise_conv.conv.weight'])
    two = norm(two, 'aspp_modules.1.pointwise_conv.bn')
    fused = F.conv2d(
        torch.cat([one, two], 1), weight['fuse_layer.bottleneck.conv.weight'], padding=1
    )
    fused = norm(fused, 'bottleneck.bn')
    expected = F.conv2d(fused, state['conv_seg.weight'], state['conv_seg.bias'])
    torch.testing.assert_close(head([fine, coarse]), expected, atol=1e-3, rtol=1e-4)


def test_daformer_drops_channels_in_training_only():
    head, features = (
        seeded(small_head(dropout_ratio=0.5)),
        [torch.ones(1, 3, 8, 8), torch.ones(1, 4, 4, 4)],
    )
    assert torch.equal(head(features), head(features))
    torch.manual_seed(0)
    head.dropout.train()
    assert not torch.equal(head(features), head(features))


@pytest.mark.parametrize('head', [DLV2Head, DAFormerHead])
def test_unknown_options_are_refused(head):
    with pytest.raises(TypeError, match='dilation'):
        head(3, num_classes=5, dilation=(6,))


def test_heads_train_in_a_segmentor_of_mmseg():
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 5, (1, 16, 16))))
    sample.set_metainfo(dict(img_shape=(16, 16), pad_shape=(16, 16)))
    head = DLV2Head(3, num_classes=5)
    losses = head.loss([torch.randn(1, 3, 4, 4)], [sample], {})
    losses['loss_ce'].backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
