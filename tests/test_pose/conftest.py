"""Fixtures of the tests of pose data."""

import pytest
from mmengine.registry import DefaultScope

from mmdistill.pose.figure_sim import PictureSettings
from mmdistill.pose.people_writer import Recipe, write_dataset


@pytest.fixture
def mmpose_scope():
    """Names without a prefix are mmpose's, as in a run with ``default_scope='mmpose'``."""
    from mmpose.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmpose'):
        yield


@pytest.fixture(scope='session')
def drawn(tmp_path_factory):
    """A folder of drawn people; never change it."""
    root = tmp_path_factory.mktemp('people')
    write_dataset(root, Recipe(24, 4, 5, PictureSettings(size=96)))
    return root


@pytest.fixture
def logged(monkeypatch):
    """The warnings of the data sets."""
    from mmdistill.pose import coco_files, datasets, labeled

    lines = []
    for module in (coco_files, datasets, labeled):
        monkeypatch.setattr(module, 'print_log', lambda text, **_: lines.append(text))
    return lines
