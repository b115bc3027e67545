"""Small student-teacher pose models, batches of crops, and one training step."""

import copy

import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample

from mmdistill.core.optim_constructor import StudentOptimWrapperConstructor
from mmdistill.pose import TRS, SemiPose

JOINTS = 5
SIZE = (64, 96)
FLIP = [0, 2, 1, 4, 3]
MSRA = dict(type='MSRAHeatmap', input_size=SIZE, heatmap_size=(16, 24), sigma=1.5)
UDP = dict(MSRA, type='UDPHeatmap')
AUX = (dict(stage='layer3', channels=4), dict(stage='layer2', channels=4, weight=0.25))
MIX = dict(type='mmdistill.KeypointMix')
POINTS = [[12.0, 20.0], [44.0, 30.0], [20.0, 60.0], [40.0, 70.0], [32.0, 48.0]]
OTHERS = [[20.0, 30.0], [36.0, 44.0], [28.0, 52.0], [40.0, 60.0], [24.0, 48.0]]
VIEW = dict(rotation_std=30, flip_prob=0.5)


def estimator(codec=MSRA, **changes):
    """Config of a tiny SimpleBaseline."""
    head = dict(
        type='mmpose.HeatmapHead',
        in_channels=32,
        out_channels=JOINTS,
        deconv_out_channels=(8, 8, 8),
        loss=dict(type='mmpose.KeypointMSELoss', use_target_weight=True),
        decoder=dict(codec),
    )
    given = dict(
        type='mmpose.TopdownPoseEstimator',
        data_preprocessor=dict(
            type='mmpose.PoseDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
        ),
        backbone=dict(type='mmpose.ResNet', depth=18, stem_channels=4, base_channels=4),
        head=head,
        train_cfg=dict(compute_acc=False),
    )
    return copy.deepcopy({**given, **changes})


def made(kind, codec=MSRA, seed=0, heads=1.0, **options):
    """A model in training mode, equal for equal seeds; its heads answer with some height."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpose'):
        given = options.pop('estimator', None) or estimator(codec)
        model = kind(estimator=given, **options)
        model.init_weights()
    wake(model, heads, seed)
    return model.train()


def wake(model, height, seed=0):
    """New heads say nothing, which hides mistakes: the heads of all networks get some noise.

    Teacher and reviewer differ from the student from then on.
    """
    generator = torch.Generator().manual_seed(100 + seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if 'head' in name and value.dim() == 4:
                noise = torch.randn(value.shape, generator=generator)
                value += height / max(value.shape[:2]) ** 0.5 * noise


def trs(**options):
    """TRS with everything on."""
    given = dict(aux=AUX, mix=MIX, hard_view=VIEW, reviewer=dict(weight=0.5))
    return made(TRS, **{**given, **options})


def semi(**options):
    """The supervised baseline."""
    return made(SemiPose, **options)


def plain(codec=MSRA, **options):
    """mmpose's own estimator with the weights of our student, in training mode."""
    with DefaultScope.overwrite_default_scope('mmpose'):
        model = MODELS.build(estimator(codec))
    model.load_state_dict(semi(codec=codec, **options).student.state_dict())
    return model.train()


def person(labeled, generator, two=False):
    """A packed crop, as ``PackSemiPose`` makes it; joints of the unlabelled are hidden ones."""
    width, height = SIZE
    shape = (2, 3, height, width) if two else (3, height, width)
    image = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    span = torch.tensor([width - 1.0, height - 1.0])
    joints = torch.rand(1, JOINTS, 2, generator=generator) * span
    seen = (torch.rand(1, JOINTS, generator=generator) < 0.8).float()
    crop = np.eye(2, 3, dtype=np.float32)
    meta = dict(
        labeled=labeled, flip_indices=list(FLIP), crop=np.stack([crop] * 2) if two else crop
    )
    sample = PoseDataSample(metainfo=meta)
    if labeled:
        sample.gt_instances = InstanceData(keypoints=joints, keypoints_visible=seen)
    else:
        hidden = dict(hidden_keypoints=joints[0].numpy(), hidden_visible=seen[0].numpy())
        sample.set_metainfo(hidden)
    return dict(inputs=image, data_samples=sample)


def batch(labeled=2, unlabeled=2, seed=0, two=False):
    """What the collate function makes of some people."""
    generator = torch.Generator().manual_seed(seed)
    people = [person(i < labeled, generator, two) for i in range(labeled + unlabeled)]
    return {key: [each[key] for each in people] for key in ('inputs', 'data_samples')}


def losses_of(model, data):
    """Losses of one step, through the preprocessor."""
    return model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')


def gradients(model, data):
    """Gradients of one step by name; parameters without one are left out."""
    model.zero_grad(set_to_none=True)
    model.parse_losses(losses_of(model, data))[0].backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def of(named, branch):
    """Entries of one network, without its prefix."""
    head = f'{branch}.'
    return {name[len(head) :]: value for name, value in named.items() if name.startswith(head)}


def optimizer(model, lr=0.05):
    """SGD over what is trained: Adam would blow rounding up."""
    cfg = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=lr, momentum=0.9))
    return StudentOptimWrapperConstructor(cfg)(model)


def trained(model, batches):
    """Trains on the batches, one step each; returns the model."""
    optim = optimizer(model)
    for step, data in enumerate(batches):
        model.cur_iter = step
        model.train_step(copy.deepcopy(data), optim)
    return model


def copied(model):
    """A copy of the state."""
    return copy.deepcopy(dict(model.state_dict()))


def answers(model, **maps):
    """Makes networks answer with given heatmaps in the easy view; returns the calls."""
    calls, plain = [], model.heatmaps

    def heatmaps(network, images):
        found = [name for name in maps if getattr(model, name) is network]
        calls.append(found[0] if found else None)
        return maps[found[0]].clone() if found else plain(network, images)

    model.heatmaps = heatmaps
    return calls


def drawn(model, points, heights=None):
    """(B, K, h, w) heatmaps of (K, 2) input pixels, of given heights per joint."""
    points = torch.as_tensor(points).expand(2, -1, -1).float()
    maps = model.maker(points, torch.ones(points.shape[:2]))[0]
    return maps if heights is None else maps * torch.as_tensor(heights)[:, None, None]


def sorted_batch(model, data):
    """The batch as the method sees it."""
    return model.read_batch(**model.data_preprocessor(copy.deepcopy(data), True))


def pseudo_of(model, data):
    """What unlabelled people teach."""
    with torch.no_grad():
        return model.pseudo_targets(sorted_batch(model, data))
