"""HSSDA on sequences like nuScenes and Waymo: configs read them, train, and know their split."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from mmdistill.core import launch
from mmdistill.core.errors import UserError
from mmdistill.det3d.lidar_sim import Lidar
from mmdistill.det3d.sequence_writer import Recipe, write_nuscenes, write_waymo
from mmdistill.det3d.split_file import make_split, write_split

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'hssda'
LIDAR = Lidar(beams=16, azimuth_step=1.0, sector=180.0)
WRITERS = dict(nuscenes=write_nuscenes, waymo=write_waymo)
NUMBERS = dict(nuscenes=9, waymo=7)
LABELLED = (0, 1)
"""Places of a split's labelled frames in a dataset, which puts them first."""
FULL = dict(
    nuscenes='centerpoint_8xb4-20e_nuscenes-3d-10class-semi-0.05',
    waymo='centerpoint-voxel_8xb4-30e_waymo-3d-3class-semi-0.01',
)


@pytest.fixture(scope='module', autouse=True)
def plain_texts():
    """Configs are written as they are: laying out their text takes longer than training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.config.config.FormatCode', lambda text, **_: (text, True))
        yield


@pytest.fixture(scope='module', params=list(WRITERS))
def tree(request, tmp_path_factory):
    """Kind and folder of four sequences of two frames; never change it."""
    root = tmp_path_factory.mktemp(request.param)
    WRITERS[request.param](root, Recipe(4, 0, frames=2, sweeps=2, seed=5, lidar=LIDAR))
    return request.param, root


def place(source, root, share='0.25'):
    """Lets a dataset config read a tree."""
    source.dataset.data_root = f'{root}/'
    source.split_file = f'{root}/ImageSets_semi/train_sequence_{share}_1.json'
    return source


def full_dataset(kind, root, method='hssda'):
    """The training data of a full-size config, read from a tree."""
    cfg = launch.read_config(CONFIGS / f'{method}_{FULL[kind]}.py')
    source = cfg.train_dataloader.dataset
    return DATASETS.build(place(source.dataset if 'times' in source else source, root))


def smoke(kind, root, work_dir, share='0.25'):
    """The smoke config on a tree."""
    cfg = launch.read_config(CONFIGS / f'hssda_centerpoint_synthetic-{kind}_smoke.py')
    place(cfg.train_dataloader.dataset, root, share)
    cfg.work_dir, cfg.log_level = str(work_dir), 'WARNING'
    launch.prepare_hosts()
    return cfg


class Watch(Hook):
    """Keeps the losses of each step, and how many pseudo labels it had."""

    def __init__(self):
        self.losses, self.kept = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name: float(value) for name, value in outputs.items()})
        stats = runner.model.pseudo_stats
        self.kept.append(0 if stats is None else int(stats.kept.sum()))


@pytest.fixture(scope='module')
def trained(host, tree, tmp_path_factory):
    """Kind, finished runner, what its hook saw, and the student's first parameters."""
    kind, root = tree
    runner = Runner.from_cfg(smoke(kind, root, tmp_path_factory.mktemp(f'{kind}_run')))
    watch = Watch()
    runner.register_hook(watch, priority='VERY_HIGH')
    before = {name: p.clone() for name, p in runner.model.student.named_parameters()}
    runner.train()
    return kind, runner, watch, before


def test_a_dozen_iterations_train_student_and_teacher(trained):
    kind, runner, watch, before = trained
    model = runner.model
    assert len(watch.losses) == 12
    assert all(torch.tensor(list(each.values())).isfinite().all() for each in watch.losses)
    first, last = (sum(e['loss'] for e in part) for part in (watch.losses[:4], watch.losses[-4:]))
    assert last < first
    for branch in (model.student, model.teacher):
        same = [n for n, p in branch.named_parameters() if torch.equal(p, before[n])]
        assert not same
    assert int(model.teacher_steps) == 12 and int(model.skipped_steps) == 0
    velocity = [name for name in before if '.vel.' in name]
    assert bool(velocity) == (kind == 'nuscenes')


def test_two_rounds_see_every_unlabelled_frame_and_no_label_leaks(trained):
    kind, runner, watch, _ = trained
    model, dataset = runner.model, runner.train_dataloader.dataset
    labelled = {dataset.frame_ids[row] for row in LABELLED}
    assert dataset.labeled_ids == labelled and dataset.source_sizes == (2, 6)
    assert int(model.store.version) == 2 and sum(watch.kept) > 0
    assert not set(model.store.frame_ids()) & labelled
    assert model.store.boxes.shape[1] == model.bank.boxes.shape[1] == NUMBERS[kind]
    own = ~model.bank.mined
    assert own.sum() > 0 and set(model.bank.frames[own].tolist()) <= labelled
    assert set(model.bank.frames[~own].tolist()) <= set(model.store.frame_ids())


def test_pasted_objects_have_the_columns_of_their_scenes(trained):
    """nuScenes files hold the ring where scenes have the age of a point; scenes hold sweeps."""
    kind, runner, _, _ = trained
    bank, dataset = runner.model.bank, runner.train_dataloader.dataset
    scenes = torch.cat([dataset[row]['inputs']['points'] for row in range(len(dataset))])
    assert bank.points.shape[1] == scenes.shape[1] == 5
    assert float(bank.points[:, 4].max()) <= float(scenes[:, 4].max())
    if kind == 'nuscenes':
        ages = bank.points[:, 4].unique().tolist()
        assert ages == pytest.approx([0, 0.05, 0.1], abs=1e-3)


def test_a_resumed_run_ends_like_an_unbroken_one(trained, tree, tmp_path):
    kind, runner, _, _ = trained
    cfg = smoke(kind, tree[1], tmp_path)
    cfg.resume, cfg.load_from = True, f'{runner.work_dir}/iter_6.pth'
    again = Runner.from_cfg(cfg)
    again.train()
    there, here = runner.model.state_dict(), again.model.state_dict()
    assert [key for key in there if not torch.equal(there[key], here[key])] == []


def test_another_split_is_refused(trained, tree, tmp_path):
    kind, runner, _, _ = trained
    cfg = smoke(kind, tree[1], tmp_path, share='0.5')
    cfg.resume, cfg.load_from = True, f'{runner.work_dir}/iter_6.pth'
    other = Runner.from_cfg(cfg)
    before = {name: p.clone() for name, p in other.model.student.named_parameters()}
    with pytest.raises(UserError, match='split .* resume with the same split_file'):
        other.train()
    saved = torch.load(f'{runner.work_dir}/iter_6.pth', weights_only=False)['state_dict']
    for name, p in other.model.student.named_parameters():
        assert torch.equal(p, before[name]) or torch.equal(p, saved[f'student.{name}'])
    assert not list(tmp_path.glob('iter_*'))


def test_with_all_labels_there_is_nothing_to_mine(host, tree, tmp_path):
    kind, root = tree
    if kind == 'nuscenes':
        pytest.skip('one kind is enough')
    infos = pickle.loads((root / 'waymo_infos_train.pkl').read_bytes())['data_list']
    split = tmp_path / 'all.json'
    write_split(split, make_split(infos, 'waymo_infos_train.pkl', 1.0, 'sequence'))
    cfg = smoke(kind, root, tmp_path)
    cfg.train_dataloader.dataset.split_file = str(split)
    cfg.train_dataloader.sampler = dict(type='mmdistill.NaturalSampler', seed=0)
    cfg.train_cfg.max_iters = 7
    runner = Runner.from_cfg(cfg)
    watch = Watch()
    runner.register_hook(watch, priority='VERY_HIGH')
    runner.train()
    model = runner.model
    assert len(watch.losses) == 7 and sum(watch.kept) == 0
    assert all(torch.tensor(list(each.values())).isfinite().all() for each in watch.losses)
    assert len(model.store) == 0 and not model.bank.mined.any() and len(model.bank) > 0


def test_full_size_configs_read_the_same_trees(host, tree):
    """Their info files, columns, boxes and splits have the same form."""
    kind, root = tree
    found = full_dataset(kind, root)
    assert found.source_sizes == (2, 6)
    names = launch.read_config(CONFIGS / f'hssda_{FULL[kind]}.py').class_names
    assert list(found.metainfo['classes']) == list(names)
    for row in (0, 7):
        sample = found[row]
        truth = sample['data_samples'].gt_instances_3d
        assert sample['inputs']['points'].shape[1] == 5
        assert truth.bboxes_3d.tensor.shape[1] == NUMBERS[kind]
        assert bool(len(truth.bboxes_3d)) == (row == 0)
    twice = [found[0]['inputs']['points'] for _ in range(2)]
    assert torch.equal(*twice)  # sweeps are not drawn
    burn_in = full_dataset(kind, root, 'burn-in')
    assert len(burn_in) == 2
    torch.manual_seed(0)
    sample = burn_in[0]['data_samples'].gt_instances_3d
    assert sample.bboxes_3d.tensor.shape[1] == NUMBERS[kind]
    assert int(sample.labels_3d.min()) >= 0 and int(sample.labels_3d.max()) < len(names)


def test_nine_of_more_sweeps_are_always_the_nearest(host, tmp_path):
    write_nuscenes(tmp_path, Recipe(4, 0, frames=1, sweeps=11, seed=1, lidar=LIDAR))
    cloud = full_dataset('nuscenes', tmp_path)[0]['inputs']['points']
    ages = (cloud[:, 4] / 0.05).round().unique().tolist()
    assert ages == list(range(10))


def test_objects_of_other_classes_are_no_targets(host, tree, tmp_path):
    kind, root = tree
    if kind == 'waymo':
        pytest.skip('WaymoDataset takes them away itself')
    root = shutil.copytree(root, tmp_path / 'tree')
    file = root / 'nuscenes_infos_train.pkl'
    content = pickle.loads(file.read_bytes())
    for info in content['data_list']:
        for each in info['instances'][::2]:
            each['bbox_label'] = each['bbox_label_3d'] = -1
    file.write_bytes(pickle.dumps(content))
    for method in ('hssda', 'burn-in'):
        found = full_dataset(kind, root, method)
        for row in LABELLED:
            labels = found[row]['data_samples'].gt_instances_3d.labels_3d
            assert len(labels) > 0 and int(labels.min()) >= 0


def test_points_of_waymo_are_squeezed(host, tree):
    kind, root = tree
    if kind == 'nuscenes':
        pytest.skip('nuScenes intensities end at 255')
    found = full_dataset(kind, root)
    info = found.get_data_info(0)
    raw = np.fromfile(info['lidar_points']['lidar_path'], np.float32).reshape(-1, 6)
    points = found[0]['inputs']['points']
    torch.testing.assert_close(points[:, 3], torch.tensor(np.tanh(raw[:, 3])))
    torch.testing.assert_close(points[:, 4], torch.tensor(raw[:, 4]))
