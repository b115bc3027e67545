"""Auxiliary heads see one pass of the backbone, fit the heatmaps and stay out of the student."""

import copy

import pytest
import torch
from estimator_cases import JOINTS, estimator
from mmengine.model import BaseModel
from mmpose.codecs import MSRAHeatmap

from mmdistill.core.errors import UserError
from mmdistill.pose.heatmaps import HeatmapGrid
from mmdistill.pose.losses import heatmap_mse
from mmdistill.pose.multi_level import AuxLevel, MultiLevelHeads
from mmdistill.testing import assert_same_state

GRID = HeatmapGrid((64, 64), (16, 16))
STAGES = dict(
    resnet=['layer3', 'layer2', 'layer1'], hrnet=['stage2', 'stage3'], vit=['layers.1', 'layers.0']
)
KINDS = sorted(STAGES)


def images(batch=2, size=64):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def heads_for(student, stages, **changes):
    heads = MultiLevelHeads(student, [dict(stage=s, channels=8) | changes for s in stages], GRID)
    torch.manual_seed(3)
    heads.init_weights()
    return heads


class Beside(BaseModel):
    """A student and its heads, as a method holds them."""

    def __init__(self, kind):
        super().__init__()
        self.student = estimator(kind)
        self.levels = heads_for(self.student, STAGES[kind])

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """All levels."""
        return self.levels(self.student, inputs)


@pytest.mark.parametrize('kind', KINDS)
def test_every_level_has_the_shape_of_the_main_head(kind):
    student = estimator(kind)
    heads = heads_for(student, STAGES[kind])
    levels = heads(student, images(3))
    assert [tuple(each.shape) for each in levels] == [(3, JOINTS, 16, 16)] * (1 + len(STAGES[kind]))
    assert heads.weights == (1.0,) + (0.5,) * len(STAGES[kind])


@pytest.mark.parametrize('kind', KINDS)
def test_the_backbone_runs_once_and_the_main_head_is_the_plain_one(kind):
    student = estimator(kind).eval()
    heads = heads_for(student, STAGES[kind])
    runs = []
    student.backbone.register_forward_hook(lambda *args: runs.append(1))
    main = heads(student, images())[0]
    assert len(runs) == 1
    assert torch.equal(main, student.head(student.extract_feat(images())))


def test_deconvolutions_follow_the_stride():
    student = estimator()
    heads = heads_for(student, ['layer4', 'layer3', 'layer2', 'layer1'])
    counts = [
        sum('ConvTranspose' in type(p).__name__ for p in h.modules()) for h in heads.aux_heads
    ]
    assert counts == [3, 2, 1, 0]
    assert [head.in_channels for head in heads.aux_heads] == [512, 256, 128, 64]


def test_less_deconvolutions_are_made_up_by_interpolation():
    student = estimator().eval()
    heads = heads_for(student, ['layer3'], num_deconvs=1).eval()
    seen = []
    heads.aux_heads[0].register_forward_hook(lambda module, args, out: seen.append(out))
    level = heads(student, images())[1]
    assert seen[0].shape[-2:] == (8, 8) and level.shape[-2:] == (16, 16)
    torch.testing.assert_close(level.mean(), seen[0].mean())


def test_heads_start_as_mmposes_do():
    heads = heads_for(estimator(), ['layer3'])
    for name, weight in heads.aux_heads.named_parameters():
        if weight.dim() == 4:
            assert 0.0008 < weight.std() < 0.0012, name
    assert heads.aux_heads[0].deconv_layers[0].weight.shape == (256, 8, 4, 4)


@pytest.mark.parametrize('kind', KINDS)
def test_building_changes_nothing_in_the_student(kind):
    student = estimator(kind)
    student.backbone.eval()
    before = copy.deepcopy(student.state_dict())
    modes = [part.training for part in student.modules()]
    random = torch.get_rng_state()
    MultiLevelHeads(student, [], GRID)
    assert torch.equal(random, torch.get_rng_state())
    heads_for(student, STAGES[kind])
    assert_same_state(student.state_dict(), before)
    assert [part.training for part in student.modules()] == modes
    assert not any(part._forward_hooks for part in student.modules())


@pytest.mark.parametrize('kind', KINDS)
def test_the_student_is_a_plain_checkpoint_without_surgery(kind):
    model = Beside(kind)
    state = model.state_dict()
    plain = estimator(kind, seed=9)
    exported = {k.removeprefix('student.'): v for k, v in state.items() if 'student.' in k}
    plain.load_state_dict(exported, strict=True)
    assert set(exported) == set(plain.state_dict())
    assert {k.split('.')[1] for k in state if not k.startswith('student.')} == {'aux_heads'}
    plain.eval(), model.eval()
    assert torch.equal(plain(images(), None), model(images())[0])


def test_heads_are_saved_and_loaded():
    model, other = Beside('resnet'), Beside('resnet')
    for weight in other.parameters():
        weight.data.add_(1)
    other.load_state_dict(model.state_dict(), strict=True)
    model.eval(), other.eval()
    for a, b in zip(model(images()), other(images()), strict=True):
        assert torch.equal(a, b)


def test_a_weight_of_zero_leaves_the_main_gradients_alone():
    """And the auxiliary heads still get gradients, so no rank waits for them."""
    plain, student = estimator(), estimator()
    heads = heads_for(student, ['layer3'], weight=0.0)
    target = torch.rand(2, JOINTS, 16, 16)
    heatmap_mse(plain.head(plain.extract_feat(images())), target).backward()
    levels = heads(student, images())
    sum(w * heatmap_mse(p, target) for w, p in zip(heads.weights, levels, strict=True)).backward()
    theirs = dict(plain.named_parameters())
    for name, weight in student.named_parameters():
        assert torch.equal(weight.grad, theirs[name].grad), name
    assert all(w.grad is not None and not w.grad.any() for w in heads.parameters())


@pytest.mark.parametrize('kind', KINDS)
def test_a_level_teaches_its_stage_and_those_below(kind):
    student = estimator(kind)
    heads = heads_for(student, STAGES[kind][-1:])
    heads(student, images())[1].square().sum().backward()
    stage = STAGES[kind][-1]
    assert any(w.grad is not None for w in student.backbone.get_submodule(stage).parameters())
    last = dict(resnet='layer4', hrnet='stage4', vit='layers.2')[kind]
    assert all(w.grad is None for w in student.backbone.get_submodule(last).parameters())
    assert all(w.grad is None for w in student.head.parameters())


def test_a_copy_of_the_student_does_as_well():
    student = estimator().eval()
    heads = heads_for(student, ['layer3']).eval()
    twin = copy.deepcopy(student)
    assert torch.equal(heads(student, images())[1], heads(twin, images())[1])
    assert not any('student' in name or 'backbone' in name for name, _ in heads.named_modules())


def test_transformer_blocks_of_mmpretrain():
    pytest.importorskip('mmpretrain', reason='ViT backbones of mmpose configs are mmpretrain.s')
    from mmpretrain.models import VisionTransformer

    arch = dict(embed_dims=12, num_layers=2, num_heads=2, feedforward_channels=16)
    student = estimator('vit')
    student.backbone = VisionTransformer(
        arch=arch, img_size=64, patch_size=16, out_type='featmap', with_cls_token=False
    )
    assert heads_for(student, ['layers.0'])(student, images())[1].shape == (2, JOINTS, 16, 16)


@pytest.mark.parametrize(
    ('aux', 'message'),
    [
        (dict(stage='layer5'), "no stage 'layer5'.*did you mean"),
        (dict(stage='layer3', num_deconvs=3), 'at most 2'),
        (dict(stage='layer3', chanels=3), "did you mean 'channels'"),
        (dict(channels=3), 'names no stage'),
        (dict(stage='layer3', channels=0), 'channels'),
        (dict(stage='layer3', num_deconvs=-1), 'num_deconvs'),
        (dict(stage='layer3', weight=-1), 'weight'),
        (dict(stage='maxpool', index=1), None),
    ],
)
def test_configs_that_do_not_fit_are_refused(aux, message):
    if message is None:  # a single map has no index to be wrong about
        MultiLevelHeads(estimator(), [aux], GRID)
        return
    with pytest.raises(UserError, match=message):
        MultiLevelHeads(estimator(), [aux], GRID)


def test_sizes_that_do_not_fit_are_refused_at_build():
    student = estimator()
    with pytest.raises(UserError, match='main head gives 16 x 16 pixels for heatmaps of 12 x 16'):
        MultiLevelHeads(student, [], HeatmapGrid((48, 64), (12, 16)))
    with pytest.raises(UserError, match='twice'):
        heads_for(student, ['layer3', 'layer3'])
    codec = MSRAHeatmap((64, 64), (32, 32), sigma=2)
    with pytest.raises(UserError, match='main head'):
        MultiLevelHeads(student, [], HeatmapGrid.from_codec(codec))
    assert AuxLevel('layer3').num_deconvs is None


def test_students_without_heatmaps_are_refused():
    student = estimator()
    student.head = torch.nn.Sequential(Last(), torch.nn.Flatten())
    with pytest.raises(UserError, match='Sequential makes no heatmaps'):
        MultiLevelHeads(student, [], GRID)
    with pytest.raises(UserError, match='Linear has no backbone and no head'):
        MultiLevelHeads(torch.nn.Linear(2, 2), [], GRID)


class Last(torch.nn.Module):
    """The last feature."""

    def forward(self, feats):
        """Of several."""
        return feats[-1]
