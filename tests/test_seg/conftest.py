"""Fixtures of the tests of segmentation."""

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture
def mmseg_scope():
    """Names without a prefix are mmseg's, as in a run with ``default_scope='mmseg'``."""
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield
