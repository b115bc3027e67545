"""SemiSeg: the frozen reference of the features, and options and batches that are refused."""

import copy

import pytest
import torch
from fst_cases import SIZE, batch_of, built, loss_of, segmentor_config, semi_seg
from fst_probes import images_of
from mmengine.optim import build_optim_wrapper
from torch.nn import functional as F

from mmdistill.core.errors import UserError
from mmdistill.testing import ToyModel, assert_same_state

GN = segmentor_config('GN')
CUT = dict(type='mmdistill.CutMix', probability=1.0)
THINGS = dict(thing_classes=(0, 1, 2, 3), min_share=0.1, loss_weight=1.0)


# ---------------------------------------------------------------- the reference of the features


def test_the_reference_is_the_initial_backbone_frozen_and_saved():
    model = semi_seg(segmentor=GN, feature_distance=THINGS)
    start = copy.deepcopy(model.student.backbone.state_dict())
    assert_same_state(model.reference.state_dict(), start)
    assert float(loss_of(model, batch_of(1))['sup_loss_feature_distance']) == 0
    optim = build_optim_wrapper(
        model, dict(optimizer=dict(type='SGD', lr=0.5),
                    constructor='mmdistill.StudentOptimWrapperConstructor')
    )  # fmt: skip
    held = {id(each) for group in optim.optimizer.param_groups for each in group['params']}
    assert held == {id(each) for each in model.student.parameters()}
    model.requires_grad_(True).train()
    for index in range(2):
        optim.update_params(sum(loss_of(model, batch_of(index)).values()))
    assert_same_state(model.reference.state_dict(), start)
    assert not any(each.training for each in model.reference.modules())
    assert not any(p.requires_grad or p.grad is not None for p in model.reference.parameters())
    assert float(loss_of(model, batch_of(1))['sup_loss_feature_distance']) > 0
    other = semi_seg(seed=4, segmentor=GN, feature_distance=THINGS)
    other.load_state_dict(model.state_dict())
    assert_same_state(other.reference.state_dict(), start)


def test_the_distance_is_that_of_the_features_in_sight():
    model = semi_seg(feature_distance=dict(thing_classes=(2,), min_share=0.5, loss_weight=2.0))
    data = batch_of(1)
    for each in data['data_samples']['sup']:
        each.gt_sem_seg.data[:] = 1
        each.gt_sem_seg.data[..., 11:] = 2  # of the middle cells, 5 of 8 columns
    batch = images_of(model, data)
    ours, theirs = (net(batch.labeled)[-1] for net in (model.student.backbone, model.reference))
    gap = (ours - theirs).square().sum(1).sqrt()
    rows = SIZE[0] // gap.shape[1]
    share = F.avg_pool2d((batch.labels == 2).float()[:, None], rows)[:, 0]
    mask = share > 0.5
    assert mask.any() and not mask.all()
    found = loss_of(model, data)['sup_loss_feature_distance']
    torch.testing.assert_close(found, 2 * gap[mask].mean())


# ---------------------------------------------------------------- clear errors


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(pseudo_bn='both'), "pseudo_bn must be one of .* got 'both'"),
        (dict(unsup_loss='all'), "unsup_loss must be one of .* got 'all'"),
        (dict(pseudo=dict(rule='best')), "pseudo.rule must be one of .* got 'best'"),
        (dict(pseudo=dict(rule='share', treshold=0.9)), "unknown key 'treshold' .*'threshold'"),
        (dict(pseudo=dict(rule='entropy', threshold=0.9)), "pseudo: unknown key 'threshold'"),
        (dict(mixing=None), "SemiSeg: unknown key 'mixing'"),
        (dict(mix=dict(type='mmdistill.StrongPhotometric')), 'mix must be ClassMix or CutMix'),
        (dict(segmentor=dict(type=ToyModel)), 'must be an EncoderDecoder of mmseg, got ToyModel'),
        (dict(joint_forward=True), 'joint_forward=True goes with CutMix'),
        (dict(joint_forward=True, mix=None, feature_distance=THINGS), 'joint_forward=True'),
        (dict(feature_distance=dict(thing_classes=(9,))), 'num_classes=4, got .9.'),
        (dict(semi_train_cfg=dict(unsup_weight=1)), "semi_train_cfg: unknown key 'unsup_weight'"),
    ],
)  # fmt: skip
def test_options_that_are_refused(options, text):
    segmentor = options.pop('segmentor', None)
    with pytest.raises(UserError, match=text):
        built(dict(type='mmdistill.SemiSeg', **options), 0, segmentor)


def test_batches_that_are_refused():
    model = semi_seg()
    data = model.data_preprocessor(batch_of(1), True)
    samples = data['data_samples']
    del samples['sup'][1].gt_sem_seg
    with pytest.raises(UserError, match="'sup' has no annotation: add LoadAnnotations"):
        model.loss(data['inputs'], samples)
    with pytest.raises(UserError, match=r"\['unsup_teacher'\] and no 'sup'"):
        model.loss({'unsup_teacher': data['inputs']['unsup_teacher']}, samples)


def test_branches_of_different_sizes_cannot_be_mixed():
    with pytest.raises(UserError, match='one batch size'):
        loss_of(semi_seg(), batch_of(1, labeled=1, unlabeled=2))
    loss_of(semi_seg(mix=CUT), batch_of(1, labeled=1, unlabeled=2))
