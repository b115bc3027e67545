"""Networks of dataset condensation: sizes, references, samples alone, second derivatives."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from mmdistill.core.errors import UserError
from mmkd.experts.flat_network import FlatNetwork
from mmkd.models.condensation.build import NETWORKS, condensation_net
from mmkd.models.condensation.layers import NORMS, norm_layer
from mmkd.models.timm_classifier import Classified
from mmkd.registry import MODELS

# smallest side of an image by channels
LEAST = {
    'ConvNet': {3: 8, 1: 8},
    'ConvNetBN': {3: 8, 1: 8},
    'AlexNet': {3: 8, 1: 4},
    'VGG11': {3: 32, 1: 32},
    'VGG11BN': {3: 32, 1: 32},
    'ResNet18': {3: 9, 1: 9},
    'ResNet18BN': {3: 1, 1: 1},
    'LeNet': {3: 16, 1: 12},
    'MLP': {3: 1, 1: 1},
}
# nets that are quick in float64
QUICK = {
    **{norm: dict(name='ConvNet', width=4, depth=2, image_size=8, norm=norm) for norm in NORMS},
    'LeNet': dict(name='LeNet', image_size=16),
    'AlexNet': dict(name='AlexNet', image_size=8),
    'MLP': dict(name='MLP', image_size=(4, 6), width=8),
}


def _net(num_classes=5, seed=0, **config):
    """A network in float64 whose normalisations scale and shift by random numbers."""
    torch.manual_seed(seed)
    network = condensation_net(num_classes=num_classes, **config).double()
    for each in network.modules():
        if isinstance(each, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            nn.init.normal_(each.weight)
            nn.init.normal_(each.bias)
    return network


def _images(network, count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *network.image_shape, generator=generator, dtype=torch.float64)


def _count(*args, **options):
    with torch.device('meta'):
        return sum(each.numel() for each in condensation_net(*args, **options).parameters())


def _unit(values):
    return values / values.norm()


def _close(found, wanted, **options):
    torch.testing.assert_close(found, wanted, **(dict(rtol=1e-9, atol=1e-9) | options))


@pytest.mark.parametrize(
    ('classes', 'options', 'count'),
    [
        (10, {}, 320_010),
        (100, {}, 504_420),
        (200, dict(image_size=64), 857_160),
        (10, dict(image_size=8, in_channels=1, width=16, depth=2), 3_194),
    ],
)
def test_convnet_is_as_large_as_published(classes, options, count):
    assert _count('ConvNet', classes, **options) == count
    assert _count('ConvNetBN', classes, **options) == count


def test_parameters_by_arithmetic():
    # values of features that are left of 32 x 32: 4 x 4, or 5 x 5 of LeNet
    alexnet = 25 * (3 * 128 + 128 * 192) + 9 * (192 * 256 + 256 * 192 + 192 * 192)
    alexnet += 128 + 192 + 256 + 192 + 192
    assert _count('AlexNet', 7) == alexnet + 7 * (192 * 16 + 1)
    assert _count('AlexNet', 7, 28, 1) == alexnet - 25 * 2 * 128 + 7 * (192 * 16 + 1)
    # in units of 64 channels: 1 2 4 4 8 8 8 8, and three numbers per channel for bias and norm
    vgg = 9 * 64 * (3 + 64 * (1 * 2 + 2 * 4 + 4 * 4 + 4 * 8 + 3 * 8 * 8)) + 3 * 64 * 43
    assert _count('VGG11', 7) == _count('VGG11BN', 7) == vgg + 7 * 513
    # a stage from v to w channels: 3 x 3 of v w + 3 w^2 and a projection, two numbers per norm
    resnet = 27 * 64 + 128 + 9 * 4 * 64**2 + 8 * 64
    resnet += sum(9 * (w * w // 2 + 3 * w * w) + w * w // 2 + 10 * w for w in (128, 256, 512))
    assert _count('ResNet18', 7) == _count('ResNet18BN', 7) == resnet + 7 * 513
    assert _count('ResNet18', 7, norm='none') == resnet - 2 * 64 * (5 + 5 * 14) + 7 * 513
    # the LeNet of 1998 with full connections has 61 706
    assert _count('LeNet', 10, 28, 1) == 61_706
    assert _count('LeNet', 10) == 61_706 + 2 * 25 * 6
    assert _count('MLP', 7) == 128 * (32 * 32 * 3 + 128 + 7) + 128 + 128 + 7
    assert _count('MLP', 7, (4, 6), 2, width=3) == 3 * 49 + 3 * 4 + 7 * 4


@pytest.mark.parametrize('name', ['AlexNet', 'LeNet', 'VGG11', 'ResNet18'])
def test_larger_images_have_no_larger_head(name):
    small, large = condensation_net(name, 4), condensation_net(name, 4, 64)
    assert [each.shape for each in small.parameters()] == [
        each.shape for each in large.parameters()
    ]
    strides = [m.stride for m in large.modules() if isinstance(m, nn.Conv2d)]
    usual = [m.stride for m in small.modules() if isinstance(m, nn.Conv2d)]
    assert usual[0] == (1, 1) and strides[1:] == usual[1:]
    assert strides[0] == ((1, 1) if name == 'VGG11' else (2, 2))
    assert large(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 4)


@pytest.mark.parametrize(
    ('size', 'depth'), [(8, 3), (28, 3), (32, 3), (63, 3), (64, 4), (128, 5), ((64, 32), 3)]
)
def test_convnet_is_deeper_for_larger_images(size, depth):
    with torch.device('meta'):
        network = condensation_net('ConvNet', 10, size, width=8)
    assert list(network.order) == [f'block{n + 1}' for n in range(depth)] + ['flatten', 'head']


def _instance(features, weight, bias):
    """Instance normalisation from its definition."""
    mean = features.mean((2, 3), keepdim=True)
    variance = features.square().mean((2, 3), keepdim=True) - mean.square()
    scaled = (features - mean) / (variance + 1e-5).sqrt()
    return scaled * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)


def _reference(name, weights, images):
    """Logits by functions, with parameters in the order of use."""
    given = iter(weights)

    def conv(features, padding=1, stride=1):
        return F.conv2d(features, next(given), next(given), stride, padding)

    def linear(features):
        return F.linear(features.flatten(1), next(given), next(given))

    stride = 2 if min(images.shape[2:]) >= 64 else 1
    if name == 'ConvNet':
        for _ in range((len(weights) - 2) // 4):
            images = _instance(conv(images), next(given), next(given))
            images = F.avg_pool2d(images.relu(), 2)
    elif name == 'VGG11':
        for count in (1, 1, 2, 2, 2):
            for _ in range(count):
                images = _instance(conv(images), next(given), next(given)).relu()
            images = F.max_pool2d(images, 2)
        images = images.mean((2, 3))
    elif name == 'AlexNet':
        images = F.max_pool2d(conv(images, 2, stride).relu(), 2)
        images = F.max_pool2d(conv(images, 2).relu(), 2)
        images = F.max_pool2d(conv(conv(conv(images).relu()).relu()).relu(), 2)
    elif name == 'LeNet':
        images = F.max_pool2d(conv(images, 0, stride).relu(), 2)
        images = F.max_pool2d(conv(images, 0).relu(), 2)
    if name in ('LeNet', 'MLP'):
        images = linear(linear(images).relu()).relu()
    logits = linear(images)
    assert not list(given)
    return logits


@pytest.mark.parametrize(
    'config',
    [
        dict(name='ConvNet', width=6, depth=2, image_size=(8, 12), in_channels=2),
        dict(name='ConvNet', width=6),
        dict(name='ConvNet', width=6, image_size=28, in_channels=1),
        dict(name='VGG11'),
        dict(name='VGG11', image_size=28, in_channels=1),
        dict(name='VGG11', image_size=64),
        dict(name='AlexNet', image_size=(9, 14)),
        dict(name='AlexNet', image_size=28, in_channels=1),
        dict(name='AlexNet', image_size=64),
        dict(name='LeNet'),
        dict(name='LeNet', image_size=28, in_channels=1),
        dict(name='LeNet', image_size=(64, 70)),
        dict(name='MLP', image_size=(4, 6)),
    ],
    ids=lambda config: '-'.join(str(each) for each in config.values()),
)
def test_same_function_as_written_from_the_definition(config):
    network = _net(**config)
    images = _images(network, count=2)
    # images of digits are those of 32 x 32 with a border of zeros
    seen = F.pad(images, (2,) * 4) if config.get('in_channels') == 1 else images
    wanted = _reference(config['name'], list(network.parameters()), seen)
    found = network(pixel_values=images)
    assert isinstance(found, Classified) and wanted.std(0).min() > 1e-6
    _close(found.logits, wanted)


@pytest.mark.parametrize(('name', 'size'), [('VGG11BN', 32), ('ResNet18BN', 16)])
def test_same_function_as_the_network_of_torchvision(name, size):
    network = _net(name=name, image_size=size)
    with torch.device('meta'):
        if name == 'VGG11BN':
            other = torchvision.models.vgg11_bn(num_classes=5)
            other.avgpool, other.classifier = nn.Identity(), nn.Linear(512, 5)
        else:
            other = torchvision.models.resnet18(num_classes=5)
            other.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            other.maxpool = nn.Identity()
    named = zip(other.state_dict(), copy.deepcopy(network.state_dict()).values(), strict=True)
    other.load_state_dict(dict(named), assign=True)
    images = _images(network)
    _close(network(images).logits, other(images))
    _close(network.eval()(images).logits, other.eval()(images))


def test_groups_of_one_channel_are_instance_normalisation():
    generator = torch.Generator().manual_seed(0)
    layer = norm_layer('instance', 6, (5, 4)).double()
    for each in layer.parameters():
        nn.init.normal_(each, generator=generator)
    features = 3 + 2 * torch.randn(4, 6, 5, 4, generator=generator, dtype=torch.float64)
    _close(layer(features), _instance(features, layer.weight, layer.bias), atol=1e-12)
    assert isinstance(layer, nn.GroupNorm) and not list(layer.buffers())


@pytest.mark.parametrize(
    ('kind', 'over', 'shape'),
    [
        ('batch', (0, 2, 3), (8,)),
        ('instance', (2, 3), (8,)),
        ('layer', (1, 2, 3), (8, 5, 4)),
    ],
)
def test_what_is_normalised_together(kind, over, shape):
    layer = norm_layer(kind, 8, (5, 4)).double()
    features = torch.randn(3, 8, 5, 4, dtype=torch.float64) * torch.rand(3, 8, 1, 1) + 2
    found = layer(features)
    _close(found.mean(over), torch.zeros_like(found.mean(over)))
    variance = features.var(over, correction=0)
    _close(found.var(over, correction=0), variance / (variance + 1e-5))
    assert [each.shape for each in layer.parameters()] == [shape] * 2


def test_groups_and_nothing():
    features = 2 + torch.randn(3, 8, 5, 4, dtype=torch.float64)
    found = norm_layer('group', 8, (5, 4)).double()(features).unflatten(1, (4, 2))
    _close(found.mean((2, 3, 4)), torch.zeros(3, 4, dtype=torch.float64))
    assert norm_layer('none', 8, (5, 4))(features) is features


ALONE = [
    *(dict(name='ConvNet', width=8, image_size=16, norm=n) for n in NORMS if n != 'batch'),
    dict(name='VGG11'),
    dict(name='ResNet18', image_size=9),
    dict(name='LeNet', image_size=16),
]


@pytest.mark.parametrize('config', ALONE, ids=lambda c: f'{c["name"]}-{c.get("norm")}')
def test_samples_are_treated_alone(config):
    network = _net(**config)
    images = _images(network)
    together = network(images).logits
    parts = torch.cat([network(part).logits for part in images.split([1, 2])])
    _close(parts, together)
    assert not FlatNetwork(network).mixes_samples and not list(network.buffers())
    # and are not all the same
    assert together.std(0).min() > 1e-6


@pytest.mark.parametrize(
    'config',
    [
        dict(name='ConvNetBN', width=8, image_size=16),
        dict(name='ConvNet', norm='batch', width=8, image_size=16),
        dict(name='ResNet18BN', image_size=9),
    ],
    ids=['ConvNetBN', 'ConvNet', 'ResNet18BN'],
)
def test_samples_of_a_training_batch_see_each_other_in_batch_normalisation(config):
    network = _net(**config)
    images = _images(network, count=4)

    def apart():
        return torch.cat([network(part).logits for part in images.split(2)])

    assert (apart() - network(images).logits).abs().max() > 1e-2
    network.eval()
    _close(apart(), network(images).logits)
    assert FlatNetwork(network).mixes_samples


@pytest.mark.parametrize('config', QUICK.values(), ids=QUICK)
def test_second_derivatives_are_those_of_finite_differences(config):
    network = _net(**config)
    images, labels = _images(network, count=4), torch.tensor([0, 3, 1, 3])
    flat = FlatNetwork(network)
    generator = torch.Generator().manual_seed(1)

    def direction(found):
        """Half of it what is found, half of it random; of length 1."""
        drawn = torch.randn(found.shape, generator=generator, dtype=found.dtype)
        return _unit(_unit(found) + _unit(drawn))

    def gradient(theta, images):
        loss = F.cross_entropy(flat.logits(theta, images), labels)
        return torch.autograd.grad(loss, theta, create_graph=True)[0]

    theta, images = flat.theta().requires_grad_(), images.requires_grad_()
    slopes = gradient(theta, images)
    beside = direction(slopes.detach())
    by_theta, by_images = torch.autograd.grad(slopes @ beside, (theta, images))
    for place, found in ((0, by_theta), (1, by_images)):
        along, ends = direction(found), []
        for step in (1e-6, -1e-6):
            given = [theta.detach().clone(), images.detach().clone()]
            given[place] += step * along
            ends.append(gradient(given[0].requires_grad_(), given[1]).detach() @ beside)
        wanted = (found * along).sum()
        assert wanted > 1e-4
        _close((ends[0] - ends[1]) / 2e-6, wanted, rtol=1e-4, atol=1e-8)


FLAT = [
    dict(name='ConvNet', image_size=8, in_channels=1, width=16, depth=2),
    dict(name='ConvNetBN', image_size=16, width=8),
    dict(name='AlexNet', image_size=8),
    dict(name='VGG11'),
    dict(name='ResNet18', image_size=9),
    dict(name='LeNet'),
    dict(name='MLP'),
]


@pytest.mark.parametrize('config', FLAT, ids=lambda config: config['name'])
def test_functional_use_is_the_module_itself(config):
    torch.manual_seed(0)
    network = condensation_net(num_classes=4, **config)
    images = torch.randn(4, *network.image_shape)
    flat = FlatNetwork(network)
    theta = flat.theta()
    assert torch.equal(theta, nn.utils.parameters_to_vector(network.parameters()))
    found = flat.logits(theta, images)
    assert torch.equal(found, network(images).logits)
    assert torch.equal(flat.logits(theta, images, training=False), network.eval()(images).logits)
    other = torch.randn(flat.size) / 20
    wanted = flat.logits(other, images)
    assert not torch.equal(wanted, found)
    assert torch.equal(flat.load(other).train()(images).logits, wanted)


@pytest.mark.parametrize('name', NETWORKS)
def test_modules_run_in_the_order_of_their_parameters_and_not_in_place(name):
    torch.manual_seed(0)
    network = condensation_net(name, 4)
    ran, seen = [], []

    def hook(key):
        def keep(module, args, output):
            ran.append(key)
            seen.append((key, [args[0], output], [args[0].clone(), output.clone()]))

        return keep

    for key, module in network.named_modules():
        if not list(module.children()):
            module.register_forward_hook(hook(key))
    F.cross_entropy(network(torch.randn(2, 3, 32, 32)).logits, torch.arange(2)).backward()
    owners = dict.fromkeys(key.rpartition('.')[0] for key, _ in network.named_parameters())
    assert [key for key in ran if key in owners] == list(owners)
    for key, after, then in seen:
        assert all(map(torch.equal, after, then)), key
    for key, each in network.named_parameters():
        if each.dim() > 1:
            assert each.grad.abs().max() > 1e-7, key


def test_all_networks_are_in_the_tables():
    assert LEAST.keys() == NETWORKS.keys()


@pytest.mark.parametrize('channels', [3, 1])
@pytest.mark.parametrize('name', LEAST)
def test_the_least_image(name, channels):
    least = LEAST[name][channels]
    with torch.device('meta'):
        network = condensation_net(name, 4, least, channels)
        assert network(torch.empty(2, *network.image_shape)).logits.shape == (2, 4)
        for side in {1, least // 2, least - 1} - {0, least}:
            with pytest.raises(UserError) as caught:
                condensation_net(name, 4, side, channels)
            assert str(caught.value) == (
                f'image_size {side} x {side} is too small for {name} as configured: it needs '
                f'{least} x {least} or more'
            )


def test_options_change_the_least_image():
    needs = 'image_size 8 x 40 is too small for ConvNet as configured: it needs 16 x 16'
    with pytest.raises(UserError, match=needs):
        condensation_net('ConvNet', 4, (8, 40), depth=4)
    # digits are padded, others are not
    with pytest.raises(UserError, match='28 x 28 is too small .* it needs 64 x 64 or more'):
        condensation_net('ConvNet', 4, 28, 1, depth=6)
    # one pixel minus its mean is nothing, whatever the image
    with pytest.raises(UserError, match='it needs 9 x 9 or more'):
        condensation_net('ResNet18', 4, 8)


@pytest.mark.parametrize('kind', NORMS)
@pytest.mark.parametrize('name', ['VGG11', 'ResNet18'])
def test_deep_networks_with_all_normalisations(name, kind):
    with torch.device('meta'):
        network = condensation_net(name, 4, (32, 48), norm=kind)
        plain = condensation_net(name, 4, (32, 48), norm='none')
        images = torch.empty(2, *network.image_shape)
        assert network(images).logits.shape == plain(images).logits.shape == (2, 4)
        norms = [type(norm_layer(kind, 4, (1, 1)))] * (8 if name == 'VGG11' else 20)
    kinds = nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm
    found = [type(each) for each in network.modules() if isinstance(each, kinds)]
    assert found == ([] if kind == 'none' else norms)
    assert not any(isinstance(each, kinds) for each in plain.modules())


@pytest.mark.parametrize('prefix', ['network.', 'student.'])
def test_weights_come_out_of_a_checkpoint_of_a_training(prefix, tmp_path):
    path = tmp_path / 'it.pth'
    config = dict(name='ConvNetBN', num_classes=5, image_size=[8, 8], width=4, depth=2)
    network = condensation_net(**config)
    images = torch.randn(2, 3, 8, 8)
    network(images)
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    other = MODELS.build(dict(config, type='mmkd.CondensationNet', checkpoint=str(path))).eval()
    assert torch.equal(other(pixel_values=images).logits, network.eval()(images).logits)
    with pytest.raises(UserError, match=r'it.pth: head.weight has shape \(5, 16\)'):
        condensation_net(**dict(config, num_classes=6, checkpoint=str(path)))


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(name='ConvNett'), "name 'ConvNett' is no network .*mean 'ConvNet'"),
        (dict(name='tiny'), "name 'tiny' is no network of CondensationNet; there are ConvNet, "),
        (dict(name='ConvNet', widht=8), "CondensationNet 'ConvNet': unknown key 'widht' .*'width'"),
        (dict(name='ConvNetBN', norm='none'), "'ConvNetBN': unknown key 'norm'; known: .'depth'"),
        (dict(name='LeNet', depth=2), "'LeNet': unknown key 'depth'; known: "),
        (dict(name='VGG11', norm='instanse'), "norm 'instanse' is unknown .*mean 'instance'"),
        (
            dict(name='ResNet18', norm=None),
            r"norm None is unknown .*; known: \['batch', 'instance'",
        ),
        (dict(name='ConvNet', norm='group', width=6), "norm 'group' needs a multiple of 4 .* 6"),
        (dict(name='ConvNet', depth=0), 'depth of ConvNet must be a whole number from 1 on, got 0'),
        (dict(name='MLP', width=2.5), 'width of MLP must be a whole number from 1 on, got 2.5'),
        (dict(name='MLP', in_channels=0), 'in_channels of MLP must be a whole number'),
        (dict(name='MLP', image_size=(8, 8, 3)), r'image_size must be .*, got \(8, 8, 3\)'),
        (dict(name='MLP', image_size=0), 'image_size must be a side in pixels or .*, got 0'),
        (dict(name='MLP', image_size='32'), "image_size must be a side .*, got '32'"),
        (dict(name='MLP', checkpoint='nowhere.pth'), 'nowhere.pth: there is no such checkpoint'),
    ],
)
def test_what_is_wrong_is_named(config, message):
    with pytest.raises(UserError, match=message):
        condensation_net(num_classes=4, **config)


@pytest.mark.parametrize('shape', [(2, 1, 8, 8), (2, 3, 8, 9), (2, 3, 16, 8), (3, 8, 8)])
@pytest.mark.parametrize('name', ['ConvNet', 'ResNet18BN', 'MLP'])
def test_images_of_another_shape_are_refused(name, shape):
    with torch.device('meta'), pytest.raises(UserError) as caught:
        condensation_net(name, 4, 8)(pixel_values=torch.empty(shape))
    assert f'must be (B, 3, 8, 8), got {shape}: in_channels and image_size' in str(caught.value)
