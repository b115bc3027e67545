"""SemiSeg: the loss is the written one, and what it must not depend on or change."""

import copy

import pytest
import torch
from fst_cases import CLASSES, SIZE, batch_of, loss_of, segmentor_config, semi_seg
from fst_probes import images_of
from mmengine.structures import PixelData
from torch.nn import functional as F

from mmdistill.seg.seg_batch import look
from mmdistill.testing import assert_same_state

CUT = dict(type='mmdistill.CutMix', probability=1.0)
THINGS = dict(thing_classes=(0, 1, 2, 3), min_share=0.1, loss_weight=1.0)


def reference_logits(model, images):
    """The teacher with the statistics of the batch, through mmseg's own functions."""
    net = copy.deepcopy(model.teacher).train()
    with torch.no_grad():
        maps = net.decode_head(net.extract_feat(images))
        return F.interpolate(maps, images.shape[-2:], mode='bilinear', align_corners=False)


# ---------------------------------------------------------------- the loss


@pytest.mark.parametrize('auxiliary', [False, True])
def test_the_labelled_part_is_the_hosts_own_loss(auxiliary):
    model = semi_seg(segmentor=segmentor_config(auxiliary=auxiliary), mix=None)
    data = model.data_preprocessor(batch_of(3), True)
    theirs = model.student.loss(data['inputs']['sup'], data['data_samples']['sup'])
    ours = loss_of(model, batch_of(3))
    names = ['decode.loss_ce'] + ['aux.loss_ce'] * auxiliary
    for name in names:
        assert torch.equal(ours[f'sup_{name}'], theirs[name])
    assert set(ours) == {f'{part}_{name}' for name in names for part in ('sup', 'unsup')}


@pytest.mark.parametrize('threshold', [0.4, 0.0, 1.1])
@pytest.mark.parametrize('rows', [(0, 0), (3, 5)])
def test_the_unlabelled_part_is_the_weighted_cross_entropy_of_the_mix(threshold, rows):
    pseudo = dict(rule='share', threshold=threshold, top_rows=rows[0], bottom_rows=rows[1])
    model = semi_seg(pseudo=pseudo)
    batch = images_of(model, batch_of(2))
    view = model.student_view(batch, 0)
    prob, labels = reference_logits(model, batch.unlabeled).softmax(1).max(1)
    weight = torch.full_like(prob, float((prob >= threshold).float().mean()))
    weight[:, : rows[0]] = 0
    weight[:, SIZE[0] - rows[1] :] = 0
    pasted = view.mask[:, 0]
    assert 0 < pasted.float().mean() < 1
    labels = torch.where(pasted, batch.labels, labels)
    weight = torch.where(pasted, 1.0, weight)
    images = torch.where(view.mask, batch.labeled, batch.unlabeled)
    assert torch.equal(view.images, images)
    net = copy.deepcopy(model.student)
    logits = net.decode_head(net.extract_feat(images))
    logits = F.interpolate(logits, SIZE, mode='bilinear', align_corners=False)
    expected = (F.cross_entropy(logits, labels, reduction='none') * weight).mean()
    torch.testing.assert_close(loss_of(model, batch_of(2))['unsup_decode.loss_ce'], expected)


def test_cut_mix_mixes_labels_and_weights_of_neighbours():
    """The partner's labels and weights go with its pixels."""
    model = semi_seg(mix=CUT, pseudo=dict(rule='entropy', drop_percent=60.0))
    batch = images_of(model, batch_of(2, unlabeled=3))
    view = model.student_view(batch, 0)
    assert view.partner.tolist() == [1, 2, 0]
    assert torch.equal(
        view.images, torch.where(view.mask, batch.unlabeled[[1, 2, 0]], batch.unlabeled)
    )
    labels, weight = model.pseudo_targets(batch)
    seen, pasted = look(model.student, view.images), view.mask[:, 0]
    losses = model.unsup_losses(seen, batch, view, labels, weight)
    labels = torch.where(pasted, labels[[1, 2, 0]], labels)
    weight = torch.where(pasted, weight[[1, 2, 0]], weight)
    logits = F.interpolate(seen.logits['decode'], SIZE, mode='bilinear', align_corners=False)
    expected = (F.cross_entropy(logits, labels, reduction='none') * weight).mean()
    torch.testing.assert_close(losses['unsup_decode.loss_ce'], expected)


def test_entropies_keep_their_percentage_and_count_once_or_twice():
    model, batch = semi_seg(mix=None, pseudo=dict(rule='entropy', drop_percent=60.0)), batch_of(1)
    images = images_of(model, batch)
    _, twice = model.pseudo_targets(images)
    logits = reference_logits(model, images.unlabeled)
    entropy = torch.distributions.Categorical(logits=logits.movedim(1, -1)).entropy()
    limit = torch.quantile(entropy.flatten(), 0.6)
    kept = entropy < limit
    assert kept.float().mean() == pytest.approx(0.6, abs=0.01)
    assert torch.equal(twice > 0, kept)
    model.rule_options['published_scale'] = False
    _, once = model.pseudo_targets(images)
    assert float(once.mean()) == pytest.approx(1)  # the loss is the mean over kept pixels
    torch.testing.assert_close(twice, once * once.max())


def test_all_pixels_count_without_a_rule():
    model = semi_seg(pseudo=dict(rule='all'), mix=None)
    batch = images_of(model, batch_of(1))
    labels, weight = model.pseudo_targets(batch)
    assert weight is None
    assert torch.equal(labels, reference_logits(model, batch.unlabeled).argmax(1))


def test_auxiliary_heads_are_weighted_or_not():
    values = []
    for weighted in (True, False):
        model = semi_seg(
            segmentor=segmentor_config(auxiliary=True), mix=None, weight_auxiliary=weighted,
            pseudo=dict(rule='share', threshold=1.1),
        )  # fmt: skip
        values.append(loss_of(model, batch_of(1)))
    assert values[0]['unsup_decode.loss_ce'] == values[1]['unsup_decode.loss_ce'] == 0
    assert values[0]['unsup_aux.loss_ce'] == 0 < values[1]['unsup_aux.loss_ce']


def test_pseudo_labels_teach_one_head_without_its_sampler_where_asked():
    config = segmentor_config(auxiliary=True)
    config['decode_head']['sampler'] = dict(type='OHEMPixelSampler', thresh=0.1, min_kept=3)
    config['decode_head']['loss_decode']['loss_weight'] = 3.0
    model = semi_seg(segmentor=config, mix=None, unsup_loss='decode')
    batch = images_of(model, batch_of(1))
    labels, weight = model.pseudo_targets(batch)
    net = copy.deepcopy(model.student)
    logits = net.decode_head(net.extract_feat(batch.unlabeled))
    logits = F.interpolate(logits, SIZE, mode='bilinear', align_corners=False)
    losses = loss_of(model, batch_of(1))
    expected = (F.cross_entropy(logits, labels, reduction='none') * weight).mean()
    torch.testing.assert_close(losses['unsup_decode.loss_ce'], expected)
    assert set(losses) == {'sup_decode.loss_ce', 'sup_aux.loss_ce', 'unsup_decode.loss_ce'}


def test_weights_of_both_parts():
    model, data = semi_seg(semi_train_cfg=dict(sup_weight=2.0)), batch_of(1)
    plain = loss_of(semi_seg(), data)
    model.unsup_weight.fill_(0.25)
    found = loss_of(model, data)
    for part, factor in (('sup', 2.0), ('unsup', 0.25)):
        name = f'{part}_decode.loss_ce'
        torch.testing.assert_close(found[name], factor * plain[name])


def test_without_weight_or_without_images_nothing_is_asked_of_the_teacher():
    model, data = semi_seg(), batch_of(1)
    model.teacher.register_forward_pre_hook(lambda *_: pytest.fail('the teacher was asked'))
    model.unsup_active = False
    first = loss_of(model, data)
    model.unsup_active = True
    for key in ('inputs', 'data_samples', 'branch_index'):
        del data[key]['unsup_teacher']
    second = loss_of(model, data)
    assert set(first) == set(second) == {'sup_decode.loss_ce'}
    assert torch.equal(*(each['sup_decode.loss_ce'] for each in (first, second)))


def test_one_pass_for_both_is_two_passes_unless_batch_norms_see_it():
    def values(norm, joint):
        model = semi_seg(segmentor=segmentor_config(norm), mix=CUT, joint_forward=joint)
        return loss_of(model, batch_of(1))

    apart, joint = values('GN', False), values('GN', True)
    for name, value in apart.items():
        torch.testing.assert_close(joint[name], value)
    apart, joint = values('BN', False), values('BN', True)
    assert abs(apart['sup_decode.loss_ce'] - joint['sup_decode.loss_ce']) > 1e-4


# ---------------------------------------------------------------- what changes nothing


def test_loss_leaves_no_trace_but_the_students_statistics():
    model = semi_seg(feature_distance=THINGS, strong=dict(type='mmdistill.StrongPhotometric'))
    before = copy.deepcopy(model.state_dict())
    first = loss_of(model, batch_of(1))
    torch.rand(7)  # no draw comes from the global generator
    second = loss_of(model, batch_of(1))
    assert_same_state(*({k: v.detach() for k, v in each.items()} for each in (first, second)))
    ends = ('running_mean', 'running_var', 'num_batches_tracked')
    for name, value in model.state_dict().items():
        moved = name.startswith('student.') and name.endswith(ends)
        assert moved or torch.equal(value, before[name]), name


def test_labels_of_unlabelled_images_change_no_loss():
    values, stats = [], []
    for poison in (None, 0, 1):
        model, data = semi_seg(), batch_of(1)
        for each in data['data_samples']['unsup_teacher'] if poison is not None else ():
            labels = torch.randint(0, CLASSES, (1, *SIZE), generator=torch.Generator()) + poison
            each.gt_sem_seg = PixelData(data=labels % CLASSES)
        values.append({k: v.detach() for k, v in loss_of(model, data).items()})
        stats.append(model.pseudo_stats)
    assert_same_state(values[0], values[1])
    assert_same_state(values[0], values[2])
    assert stats[0].true_positive is None and stats[0].hidden is None
    assert not torch.equal(stats[1].true_positive, stats[2].true_positive)


def test_counts_for_the_log_are_those_of_pixels():
    model, data = semi_seg(pseudo=dict(rule='entropy', drop_percent=70.0), mix=None), batch_of(1)
    for each in data['data_samples']['unsup_teacher']:
        labels = torch.randint(0, CLASSES, (1, *SIZE))
        labels[:, :4] = 255
        each.gt_sem_seg = PixelData(data=labels)
    batch = images_of(model, data)
    labels, weight = model.pseudo_targets(batch)
    stats, kept = model.pseudo_stats, weight > 0
    for c in range(CLASSES):
        mine, theirs = labels == c, batch.hidden == c
        assert int(stats.total[c]) == int(mine.sum())
        assert int(stats.kept[c]) == int((mine & kept & (batch.hidden != 255)).sum())
        assert int(stats.true_positive[c]) == int((mine & theirs & kept).sum())
        assert int(stats.hidden[c]) == int(theirs.sum())
    assert stats.hidden.sum() == 2 * (SIZE[0] - 4) * SIZE[1]


def test_the_view_is_a_function_of_seed_iteration_and_purpose():
    model = semi_seg(strong=dict(type='mmdistill.StrongPhotometric'))
    batch = images_of(model, batch_of(1, labeled=4, unlabeled=4))
    first = model.student_view(batch, 0)
    assert torch.equal(first.images, model.student_view(batch, 0).images)
    others = [model.student_view(batch, 1)]
    model.cur_iter = 5
    others.append(model.student_view(batch, 0))
    model.cur_iter, model.seed = 0, 9
    others.append(model.student_view(batch, 0))
    assert not any(torch.equal(first.images, each.images) for each in others)
    for name, value in images_of(model, batch_of(1, labeled=4, unlabeled=4)).__dict__.items():
        kept = getattr(batch, name)
        assert kept is value or torch.equal(kept, value)  # nothing was changed in place


@pytest.mark.parametrize('mode', [True, False])
def test_the_teacher_normalises_as_asked_in_every_mode(mode):
    running, batch_bn = semi_seg(pseudo_bn='running'), semi_seg(pseudo_bn='batch')
    for model in (running, batch_bn):
        for name, value in model.teacher.named_buffers():
            if name.endswith('running_var'):
                value.fill_(3.0)
        model.train(mode)
    images = images_of(running, batch_of(1)).unlabeled
    own = copy.deepcopy(running.teacher).eval()
    expected = F.interpolate(own(images), SIZE, mode='bilinear', align_corners=False)
    torch.testing.assert_close(running.teacher_logits(images), expected)
    torch.testing.assert_close(
        batch_bn.teacher_logits(images), reference_logits(batch_bn, images)
    )  # fmt: skip


def test_logits_have_the_size_of_the_padded_batch():
    """Also when the first image is the small one, whose size mmseg would take."""
    model, data = semi_seg(mix=None), batch_of(1)
    for branch in ('sup', 'unsup_teacher'):
        data['inputs'][branch][0] = data['inputs'][branch][0][:, :10, :16]
    sample = data['data_samples']['sup'][0]
    sample.gt_sem_seg = PixelData(data=sample.gt_sem_seg.data[:, :10, :16])
    batch = images_of(model, data)
    assert (batch.labels[0, 10:] == 255).all() and (batch.labels[0, :, 16:] == 255).all()
    assert (batch.labels[0, :10, :16] != 255).all() and (batch.labels[1] != 255).all()
    labels, weight = model.pseudo_targets(batch)
    assert labels.shape == weight.shape == batch.labels.shape == (2, *SIZE)
    assert all(value.isfinite() for value in loss_of(model, data).values())
