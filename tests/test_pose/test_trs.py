"""TRS: what teaches whom, with which weights and masks, and what nothing may change."""

import copy

import pytest
import torch
from semi_cases import (
    AUX,
    FLIP,
    JOINTS,
    MIX,
    OTHERS,
    POINTS,
    VIEW,
    answers,
    batch,
    copied,
    drawn,
    estimator,
    gradients,
    losses_of,
    of,
    person,
    pseudo_of,
    sorted_batch,
    trs,
)

from mmdistill.core.errors import UserError, explain
from mmdistill.core.modes import batch_norms
from mmdistill.pose import TRS
from mmdistill.registry import MODELS
from mmdistill.testing import assert_same_state

pytestmark = pytest.mark.usefixtures('mmpose_scope')
LAST = 'student.head.final_layer.weight'
STILL = dict(rotation_prob=0, box_scale_std=0)


# ---------------------------------------------------------------- networks


def test_all_networks_start_alike():
    model = trs(heads=0)
    for name in ('teacher', 'reviewer'):
        assert_same_state(model.branch(name), model.student)
    grad = trs(heads=0, teacher=dict(mode='grad'))
    assert_same_state(grad.reviewer, grad.student)
    assert not torch.equal(grad.teacher.backbone.conv1.weight, grad.student.backbone.conv1.weight)


def test_the_reviewer_of_a_pretrained_checkpoint_is_kept(tmp_path):
    old = trs(seed=5)
    old.reviewer_steps.fill_(7)
    torch.save(dict(state_dict=old.state_dict()), tmp_path / 'old.pth')
    given = dict(type='Pretrained', checkpoint=str(tmp_path / 'old.pth'))
    assert_same_state(trs(heads=0, init_cfg=given), old)


@pytest.mark.parametrize('options', [{}, dict(teacher=dict(weight=0))], ids=['both', 'reviewer'])
def test_followers_get_no_gradient_and_do_not_change(options):
    model = trs(**options)
    before = copied(model)
    found = gradients(model, batch())
    assert of(found, 'student') and of(found, 'levels')
    assert not of(found, 'teacher') and not of(found, 'reviewer')
    for name in ('teacher', 'reviewer'):
        assert not any(part.training for part in model.branch(name).modules())
        assert_same_state(of(copied(model), name), of(before, name))
    model.requires_grad_(True).train()
    assert not any(p.requires_grad or m.training for n in ('teacher', 'reviewer')
                   for m in model.branch(n).modules() for p in m.parameters())  # fmt: skip


def test_loss_leaves_no_trace_but_the_students_statistics():
    model, data = trs(), batch()
    before = copied(model)
    first = losses_of(model, data)
    now = copied(model)
    changed = [name for name in now if not torch.equal(now[name], before[name])]
    assert changed and all(name.startswith(('student.', 'levels.')) for name in changed)
    assert all('running_' in name or 'num_batches' in name for name in changed)
    assert {int(now[name]) for name in changed if 'num_batches' in name} == {1}
    assert model.pseudo_stats is not None and model.collapse_stats is not None
    second = losses_of(model, data)
    assert [*second] == [*first] and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize('bn', ['running', 'batch'])
def test_statistics_of_teacher_and_reviewer(bn):
    model = trs(pseudo_bn=bn)
    images = sorted_batch(model, batch()).easy
    wanted = copy.deepcopy(model.teacher).train(bn == 'batch')
    with torch.no_grad():
        found = model.easy_heatmaps(model.teacher, images)
        assert torch.allclose(found, wanted.head(wanted.extract_feat(images)), atol=1e-6)
    assert_same_state(model.teacher, trs().teacher)
    assert all(part.track_running_stats for part in batch_norms(model.teacher))


def test_without_weight_the_followers_are_not_run():
    model, ran = trs(), []
    for name in ('teacher', 'reviewer'):
        model.branch(name).backbone.register_forward_hook(lambda *_, n=name: ran.append(n))
    hard = model.hard_images
    model.hard_images = lambda *args: ran.append('hard') or hard(*args)
    seen = []
    model.student.backbone.register_forward_hook(lambda *args: seen.append(len(args[2][-1])))
    losses_of(model, batch(3, 2))
    assert ran == ['teacher', 'reviewer', 'hard'] and seen == [5]
    model.unsup_active = False
    assert all(name.startswith('sup_') for name in losses_of(model, batch(3, 2)))
    assert ran == ['teacher', 'reviewer', 'hard'] and seen == [5, 3]
    model.unsup_active, model.lam_r = True, 0.0
    losses_of(model, batch(3, 2))
    assert ran[3:] == ['teacher', 'hard']


# ---------------------------------------------------------------- losses


def test_losses_are_named_and_weighted():
    model, data = trs(), batch()
    parts = ['kpt', 'layer3', 'layer2']
    first = losses_of(model, data)
    assert [*first] == [f'{kind}_loss_{part}' for kind in ('sup', 'unsup') for part in parts]
    model.unsup_weight.fill_(0.25)
    for name, value in losses_of(model, data).items():
        factor = 0.25 if name.startswith('unsup') else 1
        assert torch.equal(value, first[name] * factor) and value > 0


def test_half_the_weight_is_the_peers_loss():
    model = trs(teacher=dict(weight=0.5), reviewer=None, aux=())
    pseudo = pseudo_of(model, batch())
    level = torch.rand(2, JOINTS, 24, 16)
    found = model.unlabeled_losses([level], pseudo)['loss_kpt']
    maps = pseudo.terms[0][0]
    theirs = sum(0.5 * (level[:, k] - maps[:, k]).pow(2).mean() for k in range(JOINTS)) / JOINTS
    assert torch.allclose(found, theirs, rtol=1e-6)


def hand_made(model, data, masks):
    """Loss on unlabelled people from its two terms, written out."""
    crops = sorted_batch(model, data)
    with torch.no_grad():
        maps = [model.heatmaps(getattr(model, n), crops.easy) for n in ('teacher', 'reviewer')]
        peak = [(each.amax((2, 3)) >= model.confidence).float() for each in maps]
        if masks == 'shared':
            peak[1] = peak[0]
        images = model.pseudo_targets(crops).images
    levels = model.student_levels(crops.labeled, images)[1]
    loss = 0
    for level, weight in zip(levels, model.levels.weights, strict=True):
        for each, mask, lam in zip(maps, peak, (model.lam_t, model.lam_r), strict=True):
            loss = loss + weight * lam * (mask[..., None, None] * (level - each) ** 2).mean()
    return loss


@pytest.mark.parametrize('masks', ['shared', 'own'])
def test_the_fused_target_has_the_gradient_of_two_terms(masks):
    model = trs(confidence=0.5, masks=masks, hard_view=None)
    heights = [[0.9, 0.4, 0.8, 0.3, 0.7], [0.4, 0.9, 0.8, 0.2, 0.6]]
    answers(model, teacher=drawn(model, POINTS, heights[0]),
            reviewer=drawn(model, OTHERS, heights[1]))  # fmt: skip
    data = batch()
    kept = [name for name, each in model.named_parameters() if each.requires_grad]
    trained = [each for each in model.parameters() if each.requires_grad]
    losses = losses_of(model, data)
    found = torch.autograd.grad(sum(v for k, v in losses.items() if k[:2] == 'un'), trained)
    wanted = torch.autograd.grad(hand_made(model, data, masks), trained)
    assert len(pseudo_of(model, data).terms) == (1 if masks == 'shared' else 2)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6 * float(b.abs().max() + 1))
    row = dict(zip(kept, found, strict=True))[LAST].flatten(1).abs().amax(1)
    assert (row > 0).tolist() == [True, masks == 'own', True, False, True]


@pytest.mark.parametrize('flip', [0, 1])
def test_one_pseudo_joint_touches_one_channel(flip):
    model = trs(mix=None, hard_view=dict(STILL, flip_prob=flip), reviewer=None)
    found = []
    for points in (POINTS, [*POINTS[:1], [30.0, 36.0], *POINTS[2:]]):
        answers(model, teacher=drawn(model, points))
        found.append(gradients(model, batch()))
    joint = FLIP[1] if flip else 1
    for name in (LAST, 'levels.aux_heads.0.final_layer.weight'):
        moved = (found[0][name] - found[1][name]).flatten(1).abs().amax(1) > 1e-6
        assert moved.tolist() == [k == joint for k in range(JOINTS)], name


@pytest.mark.parametrize('masked', [True, False])
def test_joints_that_leave_the_view(masked):
    model = trs(
        mask_out_of_view=masked, mix=None, reviewer=None,
        hard_view=dict(STILL, flip_prob=1, shift=0.45),
    )  # fmt: skip
    answers(model, teacher=drawn(model, POINTS))
    gone = 0
    for step in range(8):
        model.cur_iter = step
        ((maps, mask, _),) = pseudo_of(model, batch()).terms
        assert (mask is None) != masked
        if masked:
            assert set(mask.unique().tolist()) <= {0.0, 1.0}
            # a whole joint inside has its peak; one outside has at most the tail of its Gaussian
            assert (maps.amax((2, 3))[mask > 0] > 0.6).all()
            assert (maps.amax((2, 3))[mask == 0] < 0.95).all()
            gone += int((mask == 0).sum())
    assert gone > 5 if masked else True


def test_confidence_0_keeps_all_and_stats_count_what_is_known():
    model, data = trs(), batch()
    answers(model, teacher=drawn(model, POINTS, [0.9, 0.4, 0.8, 0.3, 0.7]))
    assert pseudo_of(model, data).terms[0][1] is None
    stats = model.pseudo_stats
    known = sum(int(s.hidden_visible.sum()) for s in data['data_samples'] if not s.labeled)
    assert int(stats.kept) == int(stats.total) == int(stats.hidden) == known < 2 * JOINTS
    for sample in data['data_samples']:
        if not sample.labeled:
            del sample.hidden_keypoints
    pseudo_of(model, data)
    assert int(model.pseudo_stats.kept) == int(model.pseudo_stats.total) == 2 * JOINTS
    assert model.pseudo_stats.hidden is None
    model.confidence = 0.5
    pseudo_of(model, data)
    assert int(model.pseudo_stats.kept) == 6


# ---------------------------------------------------------------- batches and configs


def test_single_crops_beside_double_ones():
    generator = torch.Generator().manual_seed(0)
    people = [person(i < 2, generator, two=i >= 2) for i in range(4)]
    data = {key: [each[key] for each in people] for key in ('inputs', 'data_samples')}
    model = trs()
    crops = sorted_batch(model, data)
    assert crops.labeled.shape == crops.easy.shape == crops.second.shape == (2, 3, 96, 64)
    assert not torch.equal(crops.easy, crops.second)
    assert len(losses_of(model, data)) == 6


def test_keys_and_values_that_cannot_be_are_named():
    def build(**options):
        return MODELS.build(dict(type='mmdistill.TRS', estimator=estimator(), **options))

    for options, words in (
        (dict(teacher=dict(mod='ema')), "teacher: unknown key 'mod'.*'mode'"),
        (dict(reviewer=dict(wieght=1)), "reviewer: unknown key 'wieght'.*'weight'"),
        (dict(hard_view=dict(rotation=1)), "hard_view: unknown key 'rotation'"),
        (dict(hard_view=dict(flip_prob=2)), 'flip_prob must lie in'),
        (dict(aux=[dict(stage='layer9')]), 'layer9'),
        (dict(aux=[dict(stages='layer3')]), "aux: unknown key 'stages'"),
        (dict(teacher=dict(mode='emma')), "teacher.mode must be one of .*'emma'"),
        (dict(teacher=dict(weight=-1)), 'teacher.weight must be at least 0'),
        (dict(reviewer=dict(weight=float('nan'))), 'reviewer.weight must be at least 0'),
        (dict(confidence=float('nan')), 'confidence must be at least 0'),
        (dict(confidence=-0.1), 'confidence must be at least 0'),
        (dict(masks='both'), "masks must be one of .*'both'"),
        (dict(pseudo_bn='eval'), 'pseudo_bn must be one of'),
        (dict(semi_train_cfg=dict(sup=1)), "unknown key 'sup'"),
        (dict(semi_test_cfg=dict(predict_on='judge')), "a branch is one of .*'judge'"),
    ):
        with pytest.raises(UserError, match=words):
            build(**options)
    for options, words in (
        (dict(hard_veiw=VIEW), "unknown config key 'hard_veiw'"),
        (dict(mix=dict(MIX, patch=3)), "unknown config key 'patch' for KeypointMix"),
    ):
        with pytest.raises(TypeError) as caught:
            build(**options)
        assert words in explain(caught.value) and '\n' not in explain(caught.value)


def test_an_empty_reviewer_is_one_with_defaults():
    assert TRS(estimator=estimator(), reviewer={}).lam_r == 0.5
    assert TRS(estimator=estimator(), aux=AUX).reviewer is None
