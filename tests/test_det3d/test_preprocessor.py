"""Training gets raw scenes, testing gets what the host's own preprocessor makes."""

import pytest
import torch
from det3d_scenes import batch_of, pointpillars


@pytest.fixture
def processor(host):
    """The preprocessor around the tiny detector's."""
    return host.SemiDet3DPreprocessor(pointpillars()['data_preprocessor'])


def test_training_leaves_points_and_samples_as_they_are(processor):
    inputs, samples = batch_of((3, [(10, 2)], True), (5, [], False))
    out = processor(dict(inputs=inputs, data_samples=samples), True)
    assert set(out['inputs']) == {'points'}
    for given, received in zip(inputs['points'], out['inputs']['points'], strict=True):
        assert torch.equal(given, received)
    assert [each.sample_idx for each in out['data_samples']] == [3, 5]


def test_testing_equals_the_host(processor, host):
    from mmdet3d.registry import MODELS

    inputs, samples = batch_of((3, [(10, 2)], True), (5, [], False))
    data = dict(inputs=inputs, data_samples=samples)
    plain = MODELS.build(pointpillars()['data_preprocessor'])(data, False)
    out = processor(data, False)
    assert set(out['inputs']) == {'points', 'voxels'}
    for key, value in plain['inputs']['voxels'].items():
        assert torch.equal(out['inputs']['voxels'][key], value)


def test_it_has_nothing_to_save(processor):
    assert not processor.state_dict()
