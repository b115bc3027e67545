"""The pictured views and labels of segmentation are those of training."""

import copy
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmdistill.core.errors import UserError
from mmdistill.core.positioned_data import positioned_loader

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs' / 'fst' / 'fst_streets_smoke.py'
SEMI = """
_base_ = [{base!r}]
segmentor = _base_.model.segmentor
model = dict(
    _delete_=True,
    type='mmdistill.SemiSeg',
    segmentor=segmentor,
    mix=dict(type='mmdistill.CutMix', probability=1.0),
    pseudo=dict(rule='entropy', drop_percent=60.0),
    joint_forward=True,
)
"""
PLAIN = """
_base_ = [{base!r}]
segmentor = _base_.model.segmentor
model = dict(_delete_=True, type='mmdistill.SemiSeg', segmentor=segmentor)
train_dataloader = dict(sampler=dict(ratios=(1, 0)))
"""


@pytest.fixture(autouse=True)
def mmseg_scope(tools):
    """Names without a prefix are mmseg's; the tools can be imported."""
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def streets(tmp_path_factory):
    """Eight drawn images of each domain."""
    from mmdistill.seg.street_sim import StreetSettings
    from mmdistill.seg.streets_writer import Recipe, write_dataset

    root = tmp_path_factory.mktemp('data')
    write_dataset(root, Recipe(8, 0, settings=StreetSettings(size=(128, 64))))
    return root


@pytest.fixture(scope='module')
def options(streets):
    """Overrides that point the config at the drawn images."""
    sources = 'train_dataloader.dataset.datasets'
    return {
        f'{sources}.0.class_stats': f'{streets}/source/class_stats.json',
        f'{sources}.0.min_pixels': 20,
        f'{sources}.0.dataset.data_root': f'{streets}/source',
        f'{sources}.1.dataset.data_root': f'{streets}/target',
    }


@pytest.fixture
def training(trainings, options):
    """The smoke run's model and data, which tests must leave as they are."""
    from semi_segmentation import build

    if not trainings:
        trainings.append(build(CONFIG, None, options))
    return trainings[0]


@pytest.fixture(scope='module')
def trainings():
    """Where :func:`training` keeps what it built."""
    return []


@pytest.fixture
def variant(tmp_path):
    """Writes a config that changes the smoke run's."""

    def write(text):
        path = tmp_path / 'variant.py'
        path.write_text(text.format(base=str(CONFIG)))
        return path

    return write


def loop_batch(config, options, iteration):
    """The batch of an iteration as our loop reads it."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options)
    loader = Runner.build_dataloader(copy.deepcopy(cfg.train_dataloader), seed=0)
    loader = positioned_loader(loader, seed=0, infinite=True)
    loader.batch_sampler.seek(iteration)
    return next(iter(loader))


def test_the_views_of_all_passes_are_those_of_the_training_step(training, options, monkeypatch):
    from semi_segmentation import take_step

    model = copy.deepcopy(training.model)
    step = take_step(training, training.keys(3), 3, 2)
    assert [one.name for one in step.passes] == ['real pass', 'virtual pass 1', 'virtual pass 2']
    seen, view_of = {}, model.student_view

    def remember(batch, purpose):
        seen[purpose] = batch, view_of(batch, purpose)
        return seen[purpose][1]

    monkeypatch.setattr(model, 'student_view', remember)
    optim = OptimWrapper(torch.optim.AdamW(model.student.parameters(), lr=1e-3))
    model.cur_iter = 3
    model.steps_done += 1  # the first step of this policy has no virtual ones
    model.train_step(loop_batch(CONFIG, options, 3), optim)
    assert set(seen) == {0, 1, 2}
    for number, one in enumerate(step.passes):
        batch, view = seen[number]
        assert torch.equal(one.images.labeled, batch.labeled)
        assert torch.equal(one.images.labels, batch.labels)
        assert torch.equal(one.images.unlabeled, batch.unlabeled)
        assert torch.equal(one.view.images, view.images)
        assert torch.equal(one.view.mask, view.mask)
    assert not torch.equal(step.passes[0].view.images, step.passes[1].view.images)


@pytest.mark.parametrize('kind', ['fst', 'cutmix'])
def test_labels_and_weights_are_those_of_the_loss(kind, training, options, variant, monkeypatch):
    from semi_segmentation import build, take_step, targets

    import mmdistill.seg.semi_seg as module

    config = CONFIG if kind == 'fst' else variant(SEMI)
    training = training if kind == 'fst' else build(config, None, options)
    model = training.model
    step = take_step(training, training.keys(1), 1, 2)
    found = targets(model, step)
    followed, losses_of_heads = [], module.losses_of_heads

    def remember(network, logits, labels, weight=None, **more):
        followed.append((labels, weight))
        return losses_of_heads(network, logits, labels, weight, **more)

    monkeypatch.setattr(module, 'losses_of_heads', remember)
    data = model.data_preprocessor(loop_batch(config, options, 1), True)
    model.loss(data['inputs'], data['data_samples'])
    labels, weight = followed[-1]
    assert torch.equal(found.mixed, labels)
    mask, partner = step.passes[0].view.mask[:, 0], step.passes[0].view.partner
    assert mask.any() and not mask.all()
    assert torch.equal(found.weight[~mask], weight[~mask])
    assert torch.equal(found.labels[~mask], labels[~mask])
    if kind == 'fst':
        assert partner is None and (weight[mask] == 1).all()
    else:
        assert torch.equal(found.weight[partner][mask], weight[mask])
        assert torch.equal(found.labels[partner][mask], labels[mask])
    assert found.confidence.min() >= 1 / 19 and found.confidence.max() <= 1
    again = targets(model, step)  # asking changes nothing
    assert torch.equal(again.labels, found.labels)


def test_hidden_labels_are_cut_and_flipped_like_their_image(training, streets):
    """Brute force: the crop is found in the file, and the label must be that of the place."""
    from semi_segmentation import pictures, take_step

    step = take_step(training, training.keys(0, [5, 2]), 0, 2)
    assert step.numbers == [5, 2]
    images = pictures(training.model, step.batch.unlabeled)
    for row in range(2):
        file = next((streets / 'target' / 'leftImg8bit').rglob(step.files[row]))
        label = str(file).replace('leftImg8bit/', 'gtFine/')
        label = label.replace('_leftImg8bit', '_gtFine_labelTrainIds')
        whole = cv2.imread(str(file))[..., ::-1], cv2.imread(label, cv2.IMREAD_UNCHANGED)
        places = [
            crop[1]
            for left in range(128 - 64 + 1)
            for flip in (1, -1)
            for crop in [[part[:, left : left + 64][:, ::flip] for part in whole]]
            if np.array_equal(crop[0], images[row])
        ]
        assert len(places) == 1
        assert np.array_equal(step.batch.hidden[row].numpy(), places[0])


def test_no_hidden_labels_no_truth(training, options, streets, tmp_path):
    from hidden_labels import HiddenLabels, label_prefixes
    from seg_pictures import taught_panels
    from semi_segmentation import take_step, targets

    (tmp_path / 'leftImg8bit').symlink_to(streets / 'target' / 'leftImg8bit')
    data = Config.fromfile(CONFIG).train_dataloader.dataset
    target = data.datasets[1].dataset
    target.data_root = str(tmp_path)
    assert HiddenLabels.find(data, 1) is None
    with pytest.raises(UserError, match='gtFine/train: no labels'):
        HiddenLabels.find(data, 1, 'gtFine/train')
    target.data_root = f'{streets}/target'
    assert HiddenLabels.find(data, 1, 'gtFine/train') is not None
    bare = dataclasses.replace(training, hidden=None)
    step = take_step(bare, bare.keys(0), 0, 1)
    assert step.batch.hidden is None
    panels = taught_panels(bare.model, step, targets(bare.model, step), 0)
    assert [len(row) for row in panels] == [4, 2]
    nested = [dict(a=dict(seg_map_path='x'), b=[dict(seg_map_path='y')], c='seg_map_path')]
    assert list(label_prefixes(nested)) == ['x', 'y']


def test_batches_go_on_until_enough_is_shown(training):
    from semi_segmentation import steps

    assert training.per_step == 2
    shown = [(each.numbers, training.model.cur_iter) for each in steps(training, [], 3, 4)]
    assert [len(numbers) for numbers, _ in shown] == [2, 1]
    assert [iteration for _, iteration in shown] == [4, 5]
    wanted = [each.numbers for each in steps(training, [7, 0, 3], 99, 4)]
    assert wanted == [[7, 0], [3]] and training.model.cur_iter == 4
    with pytest.raises(UserError, match='no unlabelled image 8: there are 8'):
        training.keys(0, [8])


def test_virtual_passes_on_images_of_their_own(options):
    from semi_segmentation import build, take_step

    fresh = {'model.policy': 'official_w', 'model.depth': 1, 'model.width': 2}
    loader = {'train_dataloader.batch_size': 12, 'train_dataloader.sampler.batch_size': 12}
    training = build(CONFIG, None, {**options, **fresh, **loader, 'model.virtual_data': 'fresh'})
    assert training.per_step == 2
    step = take_step(training, training.keys(0, [1, 6]), 0, 2)
    images = [one.images.unlabeled for one in step.passes]
    assert [len(each) for each in images] == [2, 2, 2] and step.numbers == [1, 6]
    assert len({each.numpy().tobytes() for each in images}) == 3


def test_pictures(options, variant, training, tmp_path, capsys):
    import browse_branches
    import visualize_pseudo

    checkpoint = tmp_path / 'some.pth'
    torch.save(dict(state_dict=training.model.student.state_dict()), checkpoint)  # a plain one
    given = ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]
    out = f'--out={tmp_path}/new'
    browse_branches.main([str(CONFIG), out, '--frames=6', *given])
    semi = [str(variant(SEMI)), f'--checkpoint={checkpoint}']
    visualize_pseudo.main([*semi, out, '--count=1', '--iter=2', *given])
    names = sorted(path.name for path in (tmp_path / 'new').iterdir())
    assert names[0] == 'branches_000000_000006.png' and names[1].startswith('pseudo_000002_')
    assert len(names) == 2 and capsys.readouterr().out.count('.png') == 2


def test_labels_alone_are_shown_and_teach_nothing(options, variant, tmp_path):
    from seg_pictures import branches, taught
    from semi_segmentation import build

    training = build(variant(PLAIN), None, options)
    assert training.source is None and training.per_step == 4
    branches(training, [], 1, tmp_path / 'new', 0)
    assert len(list((tmp_path / 'new').iterdir())) == 1
    with pytest.raises(UserError, match='nothing is taught'):
        taught(training, [], 1, tmp_path, 0)
    with pytest.raises(UserError, match='no unlabelled images to choose'):
        training.keys(0, [1])


def test_what_cannot_be_pictured_is_refused(options, variant):
    from semi_segmentation import build

    plain = '_base_ = [{base!r}]\nmodel = dict(_delete_=True, **_base_.model.segmentor)'
    with pytest.raises(UserError, match='EncoderDecoder makes no pseudo labels'):
        build(variant(plain), None, options)
    order = (
        '_base_ = [{base!r}]\n'
        "train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler'))"
    )
    with pytest.raises(UserError, match='need a RatioSampler, got InfiniteSampler'):
        build(variant(order), None, options)
