"""Fixtures of the det3d tests: a tiny detector, a tiny synthetic KITTI, a perfect teacher."""

import logging
import shutil

import pytest
import torch
from mmengine.logging import MMLogger


@pytest.fixture(autouse=True)
def one_thread():
    """Keeps the tests quick on machines with few cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def quiet_init():
    """Silences mmengine's report of every initialised parameter."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(before)


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
    from det3d_scenes import hssda_cfg

    def build(weight_seed=0, **changes):
        torch.manual_seed(weight_seed)
        cfg = hssda_cfg(**changes)
        model = host.HSSDA(**{key: value for key, value in cfg.items() if key != 'type'})
        model.init_weights()
        return model.train()

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
