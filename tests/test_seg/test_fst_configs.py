"""Configs of FST hold the numbers of the published code, and their networks fit."""

import re

import pytest
import torch
import yaml
from config_cases import (
    CITY,
    FOLDER,
    NAMES,
    NETWORKS,
    ROOT,
    UDA,
    VOC,
    built,
    config,
    images,
    samples,
)

from mmdistill.seg.class_mix import ClassMix
from mmdistill.seg.cut_mix import CutMix
from mmdistill.seg.fst import POLICIES
from mmdistill.seg.seg_batch import look
from mmdistill.seg.seg_losses import heads_of

pytestmark = pytest.mark.usefixtures('mmseg_scope')

LEAKY = dict(leaky_optimizer=True, leaky_buffers=True, share=False, reuse=False)
EXACT = dict(leaky_optimizer=False, leaky_buffers=False, share=True)
METHODS = {
    'fst-d': dict(policy='official_d', ahead=3, width=1, fresh=False, keep=0.999, **LEAKY),
    'fst-w': dict(policy='official_w', ahead=3, width=3, fresh=True, keep=0.999, **LEAKY),
    'fst-d-fast': dict(policy='official_d', ahead=1, keep=0.999, reuse=True, **EXACT),
    'mt uda': dict(policy='mt', ahead=0, keep=0.99600599600100),
    'fst': dict(policy='official_ssl', ahead=3, width=1, fresh=False, keep=0.99, **LEAKY),
    'fst-cutmix': dict(policy='official_ssl', ahead=3, keep=0.99, **LEAKY),
    'fst-fast': dict(policy='official_ssl', ahead=1, keep=0.99, **EXACT),
    'mt': dict(policy='mt', ahead=0, keep=0.9509900499),
}
"""By the name's first part; K = 3, alpha and what leaks are the published code's."""

PARAMS = {
    'dlv2red-r101': (43.22e6, 322),
    'dlv2red-r50': (24.23e6, 169),
    'daformer-mit-b5': (85.2e6, 982),
    'pspnet-r101': (65.6e6, None),
    'upernet-swin-b': (121.3e6, None),
    'upernet-beit-b': (163.3e6, None),
}
"""Weights of the segmentor and, where known, tensors."""

PASSES = {'662': 620, '1323': 578, '2646': 496, '186': 174, '372': 162, '744': 139}
"""Batches of 16 unlabelled images in a pass over them: (10582 - n) // 16, (2975 - n) // 16."""

REPORTED = {
    'fst-d_dlv2red-r101_1xb2-40k_gta2cityscapes-512x512': 59.94,
    'fst-d_upernet-swin-b_1xb2-40k_gta2cityscapes-512x512': 66.80,
    'fst-d_daformer-mit-b5_1xb2-40k_gta2cityscapes-512x512': 69.56,
    'fst-d_daformer-mit-b5_1xb2-40k_synthia2cityscapes-512x512': 62.26,
    **{
        f'fst_{net}-r101_4xb4-40e_voc-{split}-513x513': number
        for net, numbers in (
            ('pspnet', (68.35, 72.77, 75.90)),
            ('dlv2', (69.43, 73.18, 76.32)),
            ('deeplabv3plus', (73.88, 76.07, 76.32)),
        )
        for split, number in zip((662, 1323, 2646), numbers, strict=True)
    },
    **{
        f'fst_deeplabv3plus-r101_8xb2-80e_cityscapes-{split}-769x769': number
        for split, number in ((186, 71.03), (372, 75.36), (744, 76.61))
    },
}
"""The README of the published code, in percent."""


def method(name):
    """Key of METHODS."""
    first = name.split('_')[0]
    return f'{first} uda' if first == 'mt' and name in UDA else first


def split(name):
    """Number of labelled images."""
    return re.search(r'-(\d+)-(?:513|769)x', name)[1]


def crop(name):
    """(height, width) of the crops by the config's name."""
    return tuple(map(int, re.search(r'(\d+)x(\d+)$', name).groups()))


def test_the_configs_are_here():
    assert (len(UDA), len(VOC), len(CITY)) == (13, 13, 4) and len(NAMES) == 30
    assert {method(name) for name in NAMES} == {*METHODS, 'supervised'}


@pytest.mark.parametrize('name', [name for name in NAMES if 'supervised' not in name])
def test_the_method_is_the_published_one(name):
    model, wanted = built(name), dict(METHODS[method(name)])
    assert model.policy is POLICIES[wanted.pop('policy')]
    assert model.keep == pytest.approx(wanted.pop('keep'), rel=1e-9)
    assert {key: getattr(model, key) for key in wanted} == wanted
    assert model.virtual_keep is None and model.teacher_buffers == 'copy'
    if name in UDA:
        assert isinstance(model.mix, ClassMix)
        assert (model.mix.scope, model.mix.include_ignore) == ('batch', True)
        assert model.rule == 'share' and model.pseudo_bn == 'batch'
        assert model.rule_options == dict(
            threshold=0.968, top_rows=15, bottom_rows=120, scope='batch'
        )
        strong, distance = model.strong, model.feature_distance
        shares = strong.jitter_probability, strong.blur_probability
        assert (strong.strength, *shares, *strong.sigma) == (0.2, 0.8, 0.5, 0.15, 1.15)
        assert (distance.loss_weight, distance.min_share) == (0.005, 0.75)
        assert config(name).model.get('joint_forward', False) is model.joint_forward is False
        assert not model.weight_auxiliary and model.predict_on == 'student'
    else:
        mixed = 'cutmix' in name
        assert isinstance(model.mix, CutMix) if mixed else model.mix is None
        assert not mixed or model.mix.probability == 0.5
        percent = 100.0 if name in CITY else 80.0
        assert model.rule_options == dict(drop_percent=percent, published_scale=True)
        assert model.joint_forward and model.pseudo_bn == 'running'
        assert model.strong is None and model.feature_distance is None
        assert model.predict_on == 'teacher'


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('mt_')])
def test_the_control_follows_as_fast_as_the_method_does(name):
    twin = next(n for n in NAMES if n == name.replace('mt_', 'fst_' if name in VOC else 'fst-d_'))
    policy, model = built(twin).policy, built(twin)
    averages = policy.before + model.ahead + policy.after
    assert averages == (5 if name in VOC else 4)
    assert built(name).keep == pytest.approx(model.keep**averages, rel=1e-12)


@pytest.mark.parametrize('name', NAMES)
def test_budget_batch_and_selection(name):
    cfg = config(name)
    loader, loop = cfg.train_dataloader, cfg.train_cfg
    assert loop.type == 'mmdistill.IterTrainLoop'
    assert cfg.model.segmentor.data_preprocessor['size'] == crop(name)
    gpus, images_each = map(int, re.search(r'_(\d)xb(\d)-', name).groups())
    parts = 4 if 'fst-w' in name else 1
    labelled = loader.batch_size * loader.sampler.ratios[0] // sum(loader.sampler.ratios)
    assert labelled == images_each * parts
    assert cfg.auto_scale_lr.base_batch_size == gpus * loader.batch_size
    supervised = name.startswith('supervised')
    assert tuple(loader.sampler.ratios) == ((1, 0) if supervised else (1, 1))
    best = cfg.default_hooks.checkpoint.save_best
    if name in UDA:
        assert (loop.max_iters, loop.val_interval, cfg.randomness.seed) == (40000, 2000, 0)
        assert best == 'student/mIoU' + ('16' if 'synthia' in name else '')
    else:
        one = PASSES[split(name)]
        everything, epochs = (2975, 80) if name in CITY else (10582, 40)
        assert one == (everything - int(split(name))) // 16
        assert (loop.max_iters, loop.val_interval, cfg.randomness.seed) == (one * epochs, one, 2)
        assert best == ('student/mIoU' if supervised else 'teacher/mIoU')
        assert cfg.param_scheduler[0].end == loop.max_iters + 1
        for part, file in zip(loader.dataset.datasets, ('labeled', 'unlabeled'), strict=True):
            inner = part.get('dataset', part)
            assert inner.ann_file == f'u2pl_{split(name)}/{file}.txt'
    branch = best.split('/')[0]
    assert branch in cfg.val_cfg.branches and cfg.model.get('semi_test_cfg', dict()).get(
        'predict_on', 'student'
    ) == branch  # fmt: skip
    assert loop.max_iters % cfg.default_hooks.checkpoint.interval == 0


@pytest.mark.parametrize('name', NETWORKS)
def test_networks_fit_crops_and_classes(name):
    """One pass without values: logits of all heads, strides, and cells of the distance."""
    model, size = built(name), crop(name)
    segmentor = model.student
    count = 21 if name in VOC else 19
    assert segmentor.num_classes == count == model.teacher.num_classes
    seen = look(segmentor, images(2, size))
    for logits in seen.logits.values():
        assert logits.shape[:2] == (2, count)
    assert set(seen.logits) == ({'decode', 'aux'} if segmentor.with_auxiliary_head else {'decode'})
    last = seen.features[-1].shape[-2:]
    network = name.split('_')[1]
    stride = 32 if 'mit' in network or 'swin' in network else 16 if 'beit' in network else 8
    assert tuple(last) == tuple(-(-side // stride) for side in size)
    if model.feature_distance is not None:
        reference = model.reference(images(2, size))[-1]
        assert reference.shape == seen.features[-1].shape
        assert tuple(side // cell for side, cell in zip(size, last, strict=True)) == (stride,) * 2
    if network in PARAMS:
        params = list(segmentor.parameters())
        weights, tensors = PARAMS[network]
        assert sum(p.numel() for p in params) == pytest.approx(weights, rel=2e-3)
        assert tensors in (None, len(params))


def test_dilations_of_the_last_stages():
    def dilations(name):
        stage = built(name).student.backbone.layer4
        return [block.conv2.dilation[0] for block in stage]

    assert dilations(next(n for n in UDA if 'dlv2red-r101' in n)) == [2, 4, 4]
    for name in NETWORKS:
        if name not in UDA:
            assert dilations(name) == [4, 8, 16]


@pytest.mark.parametrize('name', NETWORKS)
def test_one_loss_and_its_gradient_without_values(name, monkeypatch):
    """All parts go together at full size; every weight of the student gets a gradient."""
    model, size = built(name), crop(name)
    for head in heads_of(model.student).values():
        # the number of labelled pixels is the only value that a loss asks for
        monkeypatch.setattr(head.loss_decode, 'avg_non_ignore', False)
    monkeypatch.setattr(model, 'strong', None)  # its autocast knows no device without memory
    both = ('sup', 'unsup_teacher')
    losses = model.loss({b: images(2, size) for b in both}, {b: samples(2, size) for b in both})
    parts = {'decode.loss_ce'} | ({'aux.loss_ce'} if model.student.with_auxiliary_head else set())
    taught = {'decode.loss_ce'} if model.unsup_loss == 'decode' else parts
    wanted = {f'sup_{part}' for part in parts} | {f'unsup_{part}' for part in taught}
    wanted |= {'sup_loss_feature_distance'} if name in UDA else set()
    assert set(losses) == wanted
    params = list(model.student.parameters())
    found = torch.autograd.grad(sum(losses.values()), params, allow_unused=True)
    assert all(grad is not None for grad in found)


def test_losses_of_the_heads():
    for name in NAMES:
        segmentor = config(name).model.segmentor
        semi = name not in UDA
        auxiliary = segmentor.get('auxiliary_head')
        heads = [segmentor.decode_head] + [auxiliary] * (auxiliary is not None)
        assert (auxiliary is not None) == (name in CITY or 'upernet' in name)
        for head, weight in zip(heads, (1.0, 0.4), strict=False):
            assert head.loss_decode.type == 'CrossEntropyLoss'
            assert head.loss_decode.loss_weight == weight
            # the adaptation divides by all pixels, semi-supervised training by the labelled ones
            assert head.loss_decode.get('avg_non_ignore', False) == semi
            assert head.align_corners == semi
            sampler = dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000)
            assert head.get('sampler') == (sampler if name in CITY else None)


def test_pretrained_weights_and_rates_of_stochastic_depth():
    for name in NAMES:
        backbone = config(name).model.segmentor.backbone
        kind = {'ResNetV1c': f'resnet{backbone.get("depth")}_v1c', 'BEiT': 'beit_base_patch16_224'}
        kind |= {'MixVisionTransformer': 'mit_b5', 'SwinTransformer': 'swin_base_patch4_window12'}
        assert kind[backbone.type] in backbone.init_cfg.checkpoint
        rate = {'SwinTransformer': 0.3, 'BEiT': 0.1, 'MixVisionTransformer': 0.1}
        assert backbone.get('drop_path_rate') == rate.get(backbone.type)


def test_the_metafile_reports_what_the_authors_did():
    meta = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
    found = {}
    for entry in meta['Models']:
        assert (ROOT / entry['Config']).is_file()
        reported = entry['Metadata']['Reported by the authors']
        key = 'mIoU16' if 'synthia' in entry['Name'] else 'mIoU'
        found[entry['Name']] = reported[key]
        assert all(not result['Metrics'] for result in entry['Results'])
    assert found == REPORTED
