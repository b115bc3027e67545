"""Networks for small images: sizes and shapes as published, references, features, checkpoints."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from mmdistill.core.errors import UserError
from mmkd.models.cifar.build import NETWORKS, cifar_net
from mmkd.models.cifar.resnet import RESNETS
from mmkd.models.cifar.staged import ChannelShuffle
from mmkd.models.cifar.wide_resnet import WIDE_RESNETS
from mmkd.registry import MODELS

# channels and side of stem and stages for images of 32 x 32
THIN = [(16, 32), (16, 32), (32, 16), (64, 8)]
X4 = [(32, 32), (64, 32), (128, 16), (256, 8)]
FOUR = [(64, 32), (64, 32), (128, 16), (256, 8), (512, 4)]
WIDE = [(16, 32), (32, 32), (64, 16), (128, 8)]
VGG = [(64, 32), (128, 16), (256, 8), (512, 4), (512, 4)]
# parameters with 100 classes, and those shapes
PUBLISHED = {
    'resnet8': (83_892, THIN),
    'resnet14': (181_108, THIN),
    'resnet20': (278_324, THIN),
    'resnet32': (472_756, THIN),
    'resnet44': (667_188, THIN),
    'resnet56': (861_620, THIN),
    'resnet110': (1_736_564, THIN),
    'resnet8x4': (1_233_540, X4),
    'resnet32x4': (7_433_860, X4),
    'ResNet18': (11_220_132, FOUR),
    'ResNet34': (21_328_292, FOUR),
    'ResNet50': (23_705_252, [(64, 32), (256, 32), (512, 16), (1024, 8), (2048, 4)]),
    'wrn_16_1': (180_916, THIN),
    'wrn_16_2': (703_284, WIDE),
    'wrn_40_1': (569_780, THIN),
    'wrn_40_2': (2_255_156, WIDE),
    'vgg8': (3_965_028, VGG),
    'vgg11': (9_277_284, VGG),
    'vgg13': (9_462_180, VGG),
    'vgg16': (14_774_436, VGG),
    'vgg19': (20_086_692, VGG),
    'MobileNetV2': (812_836, [(16, 16), (12, 16), (16, 8), (48, 4), (160, 2)]),
    'ShuffleNetV1': (949_258, [(24, 32), (240, 16), (480, 8), (960, 4)]),
    'ShuffleNetV2': (1_355_528, [(24, 32), (116, 16), (232, 8), (464, 4)]),
}
# one of every family
FEW = ['resnet8', 'ResNet18', 'wrn_16_1', 'vgg8', 'MobileNetV2', 'ShuffleNetV1', 'ShuffleNetV2']


def _recorded(network, images, inner=False):
    """Outputs of modules by name, as they were when the module returned, and at the end."""
    then, after = {}, {}

    def hook(name):
        def keep(module, args, output):
            then[name], after[name] = output.clone(), output

        return keep

    modules = list(network.named_modules())[1:] if inner else network.named_children()
    handles = [module.register_forward_hook(hook(name)) for name, module in modules]
    logits = network(pixel_values=images).logits
    for each in handles:
        each.remove()
    return logits, then, after


def _images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_all_networks_are_in_the_table():
    assert PUBLISHED.keys() == NETWORKS.keys()


@pytest.mark.parametrize('name', PUBLISHED)
def test_sizes_and_shapes_are_those_of_the_literature(name):
    count, shapes = PUBLISHED[name]
    with torch.device('meta'):
        network = cifar_net(name, 100)
        logits, found, _ = _recorded(network, torch.empty(2, 3, 32, 32))
    assert sum(each.numel() for each in network.parameters()) == count
    names = ['stem', *(f'stage{number}' for number in range(1, len(shapes)))]
    assert [found.pop(each).shape for each in names] == [(2, c, side, side) for c, side in shapes]
    last = ['last'] if name in ('MobileNetV2', 'ShuffleNetV2') else []
    assert list(found) == [*last, 'pool', 'head'] and isinstance(network.head, nn.Linear)
    assert logits.shape == (2, 100) and found['pool'].shape == (2, network.head.in_features)


@pytest.mark.parametrize(('classes', 'channels'), [(10, 1), (7, 4)])
def test_classes_and_channels_change_head_and_stem_alone(classes, channels):
    network, usual = cifar_net('resnet20', classes, channels), cifar_net('resnet20', 100)
    sizes = [sum(each.numel() for each in n.parameters()) for n in (network, usual)]
    assert sizes[0] - sizes[1] == (classes - 100) * 65 + (channels - 3) * 16 * 9
    assert network(pixel_values=_images(2, channels, 8, 8)).logits.shape == (2, classes)


@pytest.mark.parametrize('size', [(8, 8), (48, 32)])
@pytest.mark.parametrize('name', FEW)
def test_images_of_other_sizes(name, size):
    with torch.device('meta'):
        assert cifar_net(name, 10)(torch.empty(2, 3, *size)).logits.shape == (2, 10)


@pytest.mark.parametrize('name', ['resnet20', 'ResNet18', 'wrn_16_2', 'wrn_16_1', 'vgg8'])
def test_stages_give_activated_features(name):
    torch.manual_seed(0)
    _, found, _ = _recorded(cifar_net(name, 10), _images(2, 3, 16, 16))
    for stage in (each for each in found if each.startswith('stage')):
        assert found[stage].min() == 0 < found[stage].max()


def test_features_before_activation_can_be_recorded():
    torch.manual_seed(0)
    resnet, wide = cifar_net('resnet8', 10), cifar_net('wrn_16_2', 10)
    seen = {}
    resnet.stage2[-1].act.register_forward_pre_hook(lambda m, args: seen.update(resnet=args[0]))
    wide.stage2.norm.register_forward_hook(lambda m, args, output: seen.update(wide=output))
    for key, network in dict(resnet=resnet, wide=wide).items():
        _, found, _ = _recorded(network, _images(2, 3, 16, 16))
        assert seen[key].min() < 0 and torch.equal(seen[key].relu(), found['stage2'])


@pytest.mark.parametrize('name', FEW)
def test_features_stay_as_they_were_recorded(name):
    _, then, after = _recorded(cifar_net(name, 10), _images(2, 3, 16, 16), inner=True)
    for each in then:
        assert torch.equal(then[each], after[each]), each


@pytest.mark.parametrize('name', [*FEW, 'ResNet50'])
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    network = cifar_net(name, 10)
    F.cross_entropy(network(_images(4, 3, 8, 8)).logits, torch.arange(4)).backward()
    for key, each in network.named_parameters():
        assert each.grad is not None, key
        # biases before a batch normalisation change nothing
        if each.dim() > 1:
            assert each.grad.abs().max() > 1e-7, key


@pytest.mark.parametrize('name', [each for each in FEW if each != 'ResNet18'])
def test_forward_and_backward_derivatives_agree(name):
    torch.manual_seed(0)
    network = cifar_net(name, 5).double().eval()
    weights = {key: each.detach() for key, each in network.named_parameters()}
    images = _images(2, 3, 8, 8).double()

    def logits(given):
        return torch.func.functional_call(network, given, (images,)).logits

    along = {key: torch.randn_like(each) for key, each in weights.items()}
    _, forward = torch.func.jvp(logits, (weights,), (along,))
    beside = torch.randn_like(forward)
    (backward,) = torch.func.vjp(logits, weights)[1](beside)
    wanted = sum((backward[key] * along[key]).sum() for key in weights)
    torch.testing.assert_close((forward * beside).sum(), wanted, rtol=1e-8, atol=0)


def _torchvision(name):
    """A network of torchvision with the stem, and for VGG the pools, for small images."""
    if name == 'vgg13':
        network = torchvision.models.vgg13_bn(num_classes=7)
        layers = network.features
        for place in [n for n, each in enumerate(layers) if isinstance(each, nn.MaxPool2d)][3:]:
            layers[place] = nn.Identity()
        network.avgpool = nn.AdaptiveAvgPool2d(1)
        network.classifier = nn.Linear(512, 7)
        return network
    if name == 'ShuffleNetV2':
        network = torchvision.models.shufflenet_v2_x1_0(num_classes=7)
        network.conv1[0] = nn.Conv2d(3, 24, 1, bias=False)
    else:
        network = getattr(torchvision.models, name.lower())(num_classes=7)
        network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


@pytest.mark.parametrize('name', ['ResNet18', 'ResNet50', 'vgg13', 'ShuffleNetV2'])
def test_same_function_as_the_network_of_torchvision(name):
    torch.manual_seed(0)
    network = cifar_net(name, 7).double()
    with torch.device('meta'):
        other = _torchvision(name)
    named = zip(other.state_dict(), network.state_dict().values(), strict=True)
    other.load_state_dict(dict(named), assign=True)
    images = _images(4, 3, 16, 16).double()
    torch.testing.assert_close(network(images).logits, other(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('name', WIDE_RESNETS)
def test_wide_resnet_is_the_one_of_the_paper(name):
    torch.manual_seed(0)
    network = cifar_net(name, 7).double()
    images = _images(4, 3, 16, 16).double()
    # the paper's order of layers, which is that of the weights but for the projections
    convs = iter([m for m in network.modules() if isinstance(m, nn.Conv2d) if m.kernel_size[0] > 1])
    shortcuts = iter(
        [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.padding[0] < 1]
    )
    norms = iter([m for m in network.modules() if isinstance(m, nn.BatchNorm2d)])
    for each in network.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.normal_(each.weight)
            nn.init.normal_(each.bias)

    def activated(features):
        norm = next(norms)
        return F.batch_norm(features, None, None, norm.weight, norm.bias, True).relu()

    features = F.conv2d(images, next(convs).weight, padding=1)
    _, depth, factor = name.split('_')
    for width in (16, 32, 64):
        for block in range((int(depth) - 4) // 6):
            stride = 2 if width > 16 and block == 0 else 1
            inner = activated(features)
            if features.shape[1] != width * int(factor):
                features = F.conv2d(inner, next(shortcuts).weight, stride=stride)
            inner = activated(F.conv2d(inner, next(convs).weight, stride=stride, padding=1))
            features = features + F.conv2d(inner, next(convs).weight, padding=1)
    wanted = network.head(activated(features).mean((2, 3)))
    assert not [*convs, *norms, *shortcuts]
    torch.testing.assert_close(network(images).logits, wanted, rtol=1e-9, atol=1e-9)


def _layers(network):
    """A function that runs the next convolution and its normalisation, in the order of weights."""
    convs = iter([m for m in network.modules() if isinstance(m, nn.Conv2d)])
    norms = iter([m for m in network.modules() if isinstance(m, nn.BatchNorm2d)])

    def layer(features, stride=1):
        weight, norm = next(convs).weight, next(norms)
        groups, pad = features.shape[1] // weight.shape[1], weight.shape[-1] // 2
        features = F.conv2d(features, weight, None, stride, pad, groups=groups)
        return F.batch_norm(features, None, None, norm.weight, norm.bias, True)

    return layer


def test_mobilenet_is_a_chain_of_inverted_residuals():
    torch.manual_seed(0)
    network = cifar_net('MobileNetV2', 7).double()
    images, layer = _images(4, 3, 32, 32).double(), _layers(network)
    features = layer(images, 2).relu()
    # table 2 of the paper, with the strides for small images
    widths, counts = (8, 12, 16, 32, 48, 80, 160), (1, 2, 3, 4, 3, 3, 1)
    for width, count, first in zip(widths, counts, (1, 1, 2, 2, 1, 2, 1), strict=True):
        for number in range(count):
            stride = first if number == 0 else 1
            inner = layer(layer(layer(features).relu(), stride).relu())
            same = stride == 1 and features.shape[1] == width
            features = inner + features if same else inner
    wanted = network.head(layer(features).relu().mean((2, 3)))
    torch.testing.assert_close(network(images).logits, wanted, rtol=1e-9, atol=1e-9)


def test_shufflenet_is_a_chain_of_grouped_bottlenecks():
    torch.manual_seed(0)
    network = cifar_net('ShuffleNetV1', 7).double()
    images, layer = _images(4, 3, 16, 16).double(), _layers(network)
    features = layer(images).relu()
    for count in (4, 8, 4):
        for number in range(count):
            stride, inner = 2 if number == 0 else 1, layer(features).relu()
            # the first block sees too few channels for groups
            if features.shape[1] != 24:
                inner = F.channel_shuffle(inner, 3)
            inner = layer(layer(inner, stride).relu())
            if stride == 2:
                features = torch.cat([inner, F.avg_pool2d(features, 3, 2, 1)], 1).relu()
            else:
                features = (inner + features).relu()
    wanted = network.head(features.mean((2, 3)))
    torch.testing.assert_close(network(images).logits, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(('groups', 'channels'), [(1, 5), (2, 6), (3, 12)])
def test_a_shuffle_moves_channels_between_groups(groups, channels):
    each = channels // groups
    found = ChannelShuffle(groups)(torch.arange(channels).view(1, -1, 1, 1)).flatten()
    assert found.tolist() == [g * each + i for i in range(each) for g in range(groups)]
    features = _images(2, channels, 3, 4)
    shuffled = ChannelShuffle(groups)(features)
    assert torch.equal(shuffled, features[:, found])
    assert torch.equal(ChannelShuffle(each)(shuffled), features)
    wide = features.contiguous(memory_format=torch.channels_last)
    assert torch.equal(ChannelShuffle(groups)(wide), shuffled)


def test_weights_start_by_the_number_of_outputs():
    torch.manual_seed(0)
    for name in ('resnet8x4', 'wrn_16_2', 'vgg8', 'MobileNetV2'):
        network = cifar_net(name, 100)
        for each in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
            if each.weight.numel() > 5000:
                fan = each.out_channels * each.kernel_size[0] ** 2
                assert float(each.weight.detach().std()) == pytest.approx(
                    (2 / fan) ** 0.5, rel=0.05
                )
            assert each.bias is None or not each.bias.any()
    assert float(network.head.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert not network.head.bias.any()


@pytest.mark.parametrize('name', RESNETS)
def test_halving_stages_start_with_a_projection(name):
    with torch.device('meta'):
        network = cifar_net(name, 10)
    stages = [part for key, part in network.named_children() if key.startswith('stage')]
    for stage in stages[1:]:
        assert [isinstance(block.shortcut, nn.Identity) for block in stage] == [False] + [True] * (
            len(stage) - 1
        )


@pytest.mark.parametrize('prefix', ['network.', 'student.'])
def test_weights_come_out_of_a_checkpoint_of_a_training(prefix, tmp_path):
    config, path = dict(type='mmkd.CifarNet', name='wrn_16_1', num_classes=5), tmp_path / 'it.pth'
    network = cifar_net('wrn_16_1', 5)
    network(_images(4, 3, 8, 8))
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    other = MODELS.build(dict(config, checkpoint=str(path))).eval()
    images = _images(2, 3, 8, 8)
    assert torch.equal(other(pixel_values=images).logits, network.eval()(images).logits)
    with pytest.raises(UserError, match=r'it.pth: head.weight has shape \(5, 64\)'):
        cifar_net('wrn_16_1', 6, checkpoint=str(path))
    with pytest.raises(UserError, match='not those of a StagedNetwork of this config'):
        cifar_net('wrn_40_1', 5, checkpoint=str(path))


def test_what_is_wrong_is_named():
    with pytest.raises(UserError, match="name 'resnet65' is no .*mean 'resnet56'"):
        cifar_net('resnet65', 10)
    with pytest.raises(UserError, match="name 'tiny' is no network of CifarNet; there are resnet8"):
        cifar_net('tiny', 10)
    with pytest.raises(UserError, match='nowhere.pth: there is no such checkpoint'):
        cifar_net('resnet8', 10, checkpoint='nowhere.pth')
    with pytest.raises(UserError, match=r'\(B, 3, H, W\), got \(2, 1, 8, 8\): in_channels'):
        cifar_net('resnet8', 10)(_images(2, 1, 8, 8))
