"""TRS's hard views end to end: images and targets move together, to where the view says."""

import copy
import math

import numpy as np
import pytest
import torch
from semi_cases import FLIP, JOINTS, MSRA, UDP, batch, trs

from mmdistill.pose.peaks import decode
from mmdistill.pose.views import Affine

pytestmark = pytest.mark.usefixtures('mmpose_scope')
SIZE = (128, 160)
EXACT = dict(MSRA, input_size=SIZE, heatmap_size=(32, 40), sigma=2, unbiased=True)
CODECS = pytest.mark.parametrize(
    'codec',
    [EXACT, dict(UDP, input_size=SIZE, heatmap_size=(32, 40), sigma=2)],
    ids=['msra', 'udp'],
)
VIEWS = pytest.mark.parametrize(
    'view',
    [
        dict(rotation_std=20, rotation_max=30, box_scale=(0.9, 1.25)),
        dict(rotation_std=20, rotation_max=30, box_scale=(0.9, 1.25), flip_prob=1, shift=0.05),
        dict(rotation_std=20, rotation_max=30, box_scale=(0.9, 1.25), flip_prob=0.5),
    ],
    ids=['straight', 'flipped', 'mixed'],
)
PEOPLE = 6


def middle(seed):
    """(B, K, 2) joints near the middle of the crop."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(PEOPLE, JOINTS, 2, generator=generator) * 2 - 1
    return torch.tensor(SIZE) / 2 + spread * torch.tensor([24.0, 30.0])


def people(two=False, crops=None):
    """A batch of the size of the tests, all of it unlabelled but one."""
    data = batch(1, PEOPLE, two=two)
    shape = (2, 3, *SIZE[::-1]) if two else (3, *SIZE[::-1])
    for row, sample in enumerate(data['data_samples']):
        data['inputs'][row] = torch.zeros(shape, dtype=torch.uint8)
        if crops is not None and row:
            sample.set_metainfo(dict(crop=crops[row - 1]))
    return data


def blobs(places):
    """(B, 3, H, W) images with one round blob of 8 pixels at each of the (B, 2) places."""
    x, y = torch.arange(SIZE[0]).float(), torch.arange(SIZE[1]).float()[:, None]
    square = (x - places[:, 0, None, None]) ** 2 + (y - places[:, 1, None, None]) ** 2
    return (-square / (2 * 4.0**2)).exp()[:, None].expand(-1, 3, -1, -1)


def centers(images):
    """(B, 2) centres of mass of the first channel."""
    mass = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True)
    x, y = torch.arange(SIZE[0]).float(), torch.arange(SIZE[1]).float()
    return torch.stack([(mass.sum(1) * x).sum(1), (mass.sum(2) * y).sum(1)], -1)


def pseudo_of(model, data, joints, images=None, second=None):
    """Targets of a teacher who sees (B, K, 2) joints exactly; images are put in the batch."""
    teacher = model.maker(joints, torch.ones(joints.shape[:2]))[0]
    model.heatmaps = lambda network, _: teacher.clone()
    sorted_ = model.read_batch(**model.data_preprocessor(copy.deepcopy(data), True))
    for name, value in (('easy', images), ('second', second)):
        if value is not None:
            object.__setattr__(sorted_, name, value)
    with torch.no_grad():
        return model.pseudo_targets(sorted_)


def views_of(model, count=PEOPLE):
    """The view of this step, drawn as the model draws it when nothing is mixed."""
    uniform = torch.rand(count, 6, generator=model.generator(0))
    return model.hard_view.draw(uniform, model.grid)


@CODECS
@VIEWS
def test_targets_lie_where_the_view_takes_the_joints(codec, view):
    model, away = trs(codec=codec, mix=None, hard_view=view, aux=()), []
    for step in range(4):
        model.cur_iter = step
        joints, drawn = middle(step), views_of(model)
        ((maps, mask, _),) = pseudo_of(model, people(), joints).terms
        moved = torch.stack([drawn.linear[i] @ joints[i].T for i in range(PEOPLE)]).mT
        moved = model.grid.to_heatmap(moved + drawn.shift[:, None])
        for row in range(PEOPLE):
            if drawn.linear[row].det() < 0:
                moved[row] = moved[row][FLIP]
        away.append((decode(maps, model.grid)[0] - moved).norm(dim=-1))
        assert mask is None
    away = torch.cat(away)
    assert float(away.mean()) < 0.1 and float(away.max()) < 0.6
    flipped = torch.det(drawn.linear) < 0
    expected = view.get('flip_prob', 0)
    assert flipped.all() if expected == 1 else flipped.any() == (expected > 0)


@CODECS
@VIEWS
def test_the_picture_goes_where_the_targets_go(codec, view):
    model = trs(codec=codec, mix=None, hard_view=view, aux=())
    for joint in (0, 1):
        joints = middle(joint)
        pseudo = pseudo_of(model, people(), joints, images=blobs(joints[:, joint]))
        seen = model.grid.to_heatmap(centers(pseudo.images))
        mirrored = torch.det(views_of(model).linear) < 0
        channel = torch.where(mirrored, FLIP[joint], joint)
        found = decode(pseudo.terms[0][0], model.grid)[0][torch.arange(PEOPLE), channel]
        assert float((seen - found).norm(dim=-1).mean()) < 0.1


def random_crops(seed, size=SIZE):
    """(B, 2, 3) maps from a photograph to crops, half of them mirrored."""
    generator = np.random.default_rng(seed)
    made = []
    for row in range(PEOPLE):
        angle, scale = generator.normal(0, 0.2), generator.uniform(0.8, 1.1)
        turn = scale * np.array([[math.cos(angle), -math.sin(angle)],
                                 [math.sin(angle), math.cos(angle)]])  # fmt: skip
        if (row + seed) % 2:
            turn = turn @ np.diag([-1.0, 1.0])
        center = np.array([200.0, 300.0]) + generator.normal(0, 3, 2)
        made.append(np.column_stack([turn, np.array(size) / 2 - turn @ center]))
    return np.array(made, np.float32)


def as_affine(matrices):
    """A batch of maps."""
    matrices = torch.from_numpy(matrices).double()
    return Affine(matrices[..., :2], matrices[..., 2])


@CODECS
@pytest.mark.parametrize('view', [None, dict(rotation_std=15, flip_prob=0.5)])
@pytest.mark.parametrize('seeds', [(0, 2), (0, 1), (1, 4)], ids=['same', 'other', 'mixed'])
def test_second_crops_get_the_targets_of_first_ones(codec, view, seeds):
    model = trs(codec=codec, mix=None, hard_view=view, aux=(), reviewer=None)
    first, second = (random_crops(seed) for seed in seeds)
    world = middle(3).double() - torch.tensor(SIZE) / 2 + torch.tensor([200.0, 300.0])
    flip = torch.tensor(FLIP)
    # whoever looks at a mirrored crop calls the left hand right
    here, there = (as_affine(each).joints(world, flip).float() for each in (first, second))
    data = people(two=True, crops=np.stack([first, second], 1))
    joint = 1
    pseudo = pseudo_of(model, data, here, second=blobs(there[:, joint]))
    drawn = Affine.identity(PEOPLE) if view is None else views_of(model)
    wanted = model.grid.to_heatmap(drawn.joints(there, flip))
    found = decode(pseudo.terms[0][0], model.grid)[0]
    assert float((found - wanted).norm(dim=-1).mean()) < 0.1
    channel = torch.where(drawn.mirrored, FLIP[joint], joint)
    seen = model.grid.to_heatmap(centers(pseudo.images))
    assert float((seen - found[torch.arange(PEOPLE), channel]).norm(dim=-1).mean()) < 0.15


def test_hidden_joints_are_compared_in_the_crop():
    model = trs(codec=EXACT, mix=None, aux=(), reviewer=None, confidence=0.5)
    world = middle(3).double() - torch.tensor(SIZE) / 2 + torch.tensor([200.0, 300.0])
    crops = random_crops(1)
    data = people(crops=crops)
    for row, sample in enumerate(data['data_samples'][1:]):
        seen = np.ones(JOINTS, np.float32)
        sample.set_metainfo(
            dict(hidden_keypoints=world[row].numpy().astype(np.float32), hidden_visible=seen)
        )
    here = as_affine(crops).joints(world, torch.tensor(FLIP)).float()
    pseudo_of(model, data, here)
    assert int(model.pseudo_stats.true_positive) == PEOPLE * JOINTS
    wrong = as_affine(crops).points(world).float()  # left and right confused in mirrored crops
    pseudo_of(model, data, wrong)
    assert int(model.pseudo_stats.true_positive) < PEOPLE * JOINTS


def test_mixing_happens_in_the_easy_view_and_targets_stay():
    mix = dict(type='mmdistill.KeypointMix', scope='cutout', patches=8, mix_weight=(1, 1), fill=9.0)
    model = trs(codec=EXACT, mix=mix, hard_view=None, aux=(), reviewer=None)
    joints = middle(0)
    images = torch.zeros(PEOPLE, 3, *SIZE[::-1])
    pseudo = pseudo_of(model, people(), joints, images=images)
    assert float(pseudo.images.max()) == 9.0 and float(images.max()) == 0
    teacher = model.maker(joints, torch.ones(joints.shape[:2]))[0]
    assert torch.equal(pseudo.terms[0][0], teacher)
    changed = pseudo.images[:, 0] > 0
    for row in range(PEOPLE):
        y, x = changed[row].nonzero().float().unbind(-1)
        near = torch.cdist(torch.stack([x, y], -1), joints[row]).amin(1)
        assert float(near.median()) < 0.2 * SIZE[0]
