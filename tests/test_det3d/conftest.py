"""Fixtures of the det3d tests: a tiny detector, a tiny synthetic KITTI, a perfect teacher."""

import shutil

import pytest
import torch


@pytest.fixture(autouse=True, scope='module')
def one_thread():
    """Keeps the tests quick on machines with few cores.

    Before the fixtures of a module: trainings that are compared have the same threads, and add up
    in the same order.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session')
def host():
    """mmdet3d's registries, with the host as default scope, and our types."""
    from mmdet3d.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    import mmdistill.det3d

    return mmdistill.det3d


@pytest.fixture
def hssda(host):
    """Builds an HSSDA model around the tiny PointPillars, weights a function of ``seed``."""
    from det3d_scenes import hssda_cfg, initialised

    def build(weight_seed=0, **changes):
        torch.manual_seed(weight_seed)
        cfg = hssda_cfg(**changes)
        model = host.HSSDA(**{key: value for key, value in cfg.items() if key != 'type'})
        return initialised(model)

    return build


@pytest.fixture(scope='session')
def kitti_folder(tmp_path_factory):
    """A synthetic KITTI tree of 12 + 2 coarse frames; never change it, see ``kitti_copy``."""
    from mmdistill.det3d.kitti_writer import Recipe, write_dataset
    from mmdistill.det3d.lidar_sim import Lidar

    root = tmp_path_factory.mktemp('kitti')
    write_dataset(root, Recipe(12, 2, 0, Lidar(beams=24, azimuth_step=0.5, sector=50.0)))
    return root


@pytest.fixture
def kitti_copy(kitti_folder, tmp_path):
    """A copy of the tree that a test may damage."""
    return shutil.copytree(kitti_folder, tmp_path / 'kitti')


@pytest.fixture(scope='session')
def marked_kitti(host, kitti_folder, tmp_path_factory):
    """A copy of the tree whose scans carry the markers that the perfect teacher reads."""
    import numpy as np
    from det3d_scenes import cloud, kitti_cfg
    from mmengine.registry import DATASETS

    root = shutil.copytree(kitti_folder, tmp_path_factory.mktemp('marked') / 'kitti')
    dataset = DATASETS.build(kitti_cfg(root, filter_empty_gt=False))
    for row in range(len(dataset)):
        info = dataset.get_data_info(row)
        truth = info['ann_info']
        labels = torch.as_tensor(truth['gt_labels_3d'])
        extra = cloud(truth['gt_bboxes_3d'].tensor, labels, seed=row, per_box=8, ground=0)
        scan = np.fromfile(info['lidar_path'], np.float32).reshape(-1, 4)
        np.concatenate([scan, extra.numpy()]).astype(np.float32).tofile(info['lidar_path'])
    return root


@pytest.fixture
def semi_data(host):
    """Builds a semi-supervised dataset on a tree."""
    from det3d_scenes import semi_cfg
    from mmengine.registry import DATASETS

    def build(root, **changes):
        return DATASETS.build(semi_cfg(root, **changes))

    return build


@pytest.fixture(scope='session')
def truth(host, kitti_folder):
    """All annotations of the tree by frame: (N, 7) boxes and (N,) labels."""
    from det3d_scenes import kitti_cfg
    from mmengine.registry import DATASETS

    dataset = DATASETS.build(kitti_cfg(kitti_folder, filter_empty_gt=False))
    known = [dataset.get_data_info(row)['ann_info'] for row in range(len(dataset))]
    return {
        frame: (each['gt_bboxes_3d'].tensor, torch.as_tensor(each['gt_labels_3d']))
        for frame, each in enumerate(known)
    }
