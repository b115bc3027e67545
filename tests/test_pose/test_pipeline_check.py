"""Pipelines that would look at joints nobody has, or crop wrongly, are refused when built."""

import numpy as np
import pytest
from data_cases import geometry, pipeline
from mmcv.transforms import BaseTransform
from mmpose.datasets.transforms import GetBBoxCenterScale, RandomFlip, RandomHalfBody, TopdownAffine

from mmdistill.core.errors import UserError
from mmdistill.pose.pipeline_check import check_pipeline, keys_of, walk
from mmdistill.registry import TRANSFORMS

pytestmark = pytest.mark.usefixtures('mmpose_scope')


class BoxOfJoints(BaseTransform):
    """Puts the box around the joints."""

    def transform(self, results: dict) -> dict:
        """Changes the box."""
        joints = results['keypoints'][0]
        results['bbox'] = np.concatenate([joints.min(0), joints.max(0)])[None]
        return results


class GentleHalfBody(RandomHalfBody):
    """A transform of somebody that inherits what it reads."""


class SquareAffine(TopdownAffine):
    """A crop of somebody that reads nothing new."""


class AlignedAffine(TopdownAffine):
    """A crop of somebody that turns the body upright."""

    def transform(self, results: dict) -> dict:
        """Looks at the joints first."""
        results['bbox_rotation'] = results['keypoints'][0, :1, 0]
        return super().transform(results)


@pytest.fixture
def registered(monkeypatch):
    """Registers the classes above for one test."""
    for kind in (BoxOfJoints, GentleHalfBody, SquareAffine, AlignedAffine):
        monkeypatch.setitem(TRANSFORMS._module_dict, kind.__name__, kind)


HALF = dict(type='RandomHalfBody')
REFUSED = {
    'half body': (HALF, 'RandomHalfBody'),
    'with scope': (dict(type='mmpose.RandomHalfBody'), 'RandomHalfBody'),
    'a class': (dict(type=RandomHalfBody), 'RandomHalfBody'),
    'targets': (dict(type='GenerateTarget', encoder=dict(type='MSRAHeatmap')), 'GenerateTarget'),
    'filter': (dict(type='FilterAnnotations'), 'FilterAnnotations'),
    'converter': (dict(type='KeypointConverter', num_keypoints=1, mapping=[]), 'KeypointConverter'),
    'bottom-up': (dict(type='BottomupRandomAffine', input_size=(64, 64)), 'BottomupRandomAffine'),
    'host packing': (dict(type='PackPoseInputs'), 'PackPoseInputs'),
    'one of many': (dict(type='RandomApply', transforms=[dict(type='LoadImage'), HALF]),
                    'RandomHalfBody'),
    'a choice': (dict(type='RandomChoice', transforms=[[dict(type='LoadImage')], [HALF]]),
                 'RandomHalfBody'),
    'deep': (
        dict(type='RandomApply', transforms=[
            dict(type='RandomChoice', transforms=[[dict(type='RandomApply', transforms=HALF)]])]),
        'RandomHalfBody',
    ),
    'second crop': (
        dict(type='mmdistill.SecondCrop', transforms=[HALF, *geometry()]), 'RandomHalfBody'
    ),
    'albumentations': (
        dict(type='Albumentation', transforms=[], keymap=dict(img='image', keypoints='keypoints')),
        'Albumentation',
    ),
    'mapper': (
        dict(type='KeyMapper', mapping=dict(img='keypoints'), transforms=[dict(type='LoadImage')]),
        'KeyMapper',
    ),
    'own': (dict(type='mmdistill.BoxOfJoints'), 'BoxOfJoints'),
    'inherited': (dict(type='mmdistill.GentleHalfBody'), 'GentleHalfBody'),
    'aligned': (dict(type='mmdistill.AlignedAffine', input_size=(48, 64)), 'AlignedAffine'),
}  # fmt: skip


@pytest.mark.usefixtures('registered')
@pytest.mark.parametrize('case', REFUSED)
def test_what_depends_on_joints_is_refused_wherever_it_stands(case):
    step, name = REFUSED[case]
    steps = pipeline(step)
    with pytest.raises(UserError, match=rf'unlabeled_pipeline\[1\].*{name} depends on joints'):
        check_pipeline(steps, 'unlabeled_pipeline', labeled=False)


def test_the_place_and_the_keys_are_named():
    steps = pipeline(dict(type='RandomApply', transforms=[dict(type='LoadImage'), HALF]))
    said = r'p\[1\]\.transforms\[1\]: RandomHalfBody depends on joints \(keypoints, keypoints_vis'
    with pytest.raises(UserError, match=said):
        check_pipeline(steps, 'p', labeled=False)


def test_labelled_people_may_use_their_joints():
    check_pipeline(pipeline(HALF), 'labeled_pipeline', labeled=True)


@pytest.mark.usefixtures('registered')
@pytest.mark.parametrize('labeled', [True, False])
def test_what_only_looks_at_pixels_passes(labeled):
    for extra in (
        [], [dict(type='PhotometricDistortion')], [dict(type='YOLOXHSVRandomAug')],
        [dict(type='mmdistill.SecondCrop', transforms=geometry())],
        [dict(type='Albumentation', transforms=[dict(type='Blur', p=0.1)])],
    ):  # fmt: skip
        check_pipeline(pipeline(*extra), 'p', labeled)
    steps = pipeline()
    steps[-2]['type'] = 'mmdistill.SquareAffine'
    check_pipeline(steps, 'p', labeled)


@pytest.mark.parametrize('labeled', [True, False])
@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda steps: steps.pop(), 'must end with mmdistill.PackSemiPose'),
        (lambda steps: steps.clear(), 'must end with mmdistill.PackSemiPose'),
        (lambda steps: steps.pop(-2), 'must hold one TopdownAffine, not 0'),
        (lambda steps: steps.insert(4, steps[4]), 'must hold one TopdownAffine, not 2'),
        (lambda steps: steps.insert(4, steps.pop(2)), r'p\[4\]: RandomFlip after TopdownAffine'),
        (lambda steps: steps[4].update(use_udp=True), r'p\[4\]: give .* the same use_udp'),
        (lambda steps: steps.insert(1, dict(type='Mosaic')), r'p\[1\]: Mosaic mixes samples'),
        (
            lambda steps: steps.insert(
                1, dict(type='mmdistill.SecondCrop', transforms=geometry(udp=True))
            ),
            r'p\[1\]\.transforms\[3\]: give .* the same use_udp',
        ),
        (
            lambda steps: steps.insert(
                1, dict(type='mmdistill.SecondCrop', transforms=geometry()[:-1])
            ),
            r'p\[1\]\.transforms must hold one TopdownAffine',
        ),
        (
            lambda steps: steps.insert(4, dict(type='RandomApply', transforms=[steps.pop(2)])),
            r'p\[4\]\.transforms\[0\]: RandomFlip after TopdownAffine',
        ),
    ],
)
def test_wrong_crops_are_refused(change, said, labeled):
    steps = pipeline()
    change(steps)
    with pytest.raises(UserError, match=said):
        check_pipeline(steps, 'p', labeled)


def test_the_scan_reads_code_and_not_prose():
    assert keys_of(RandomHalfBody) == {'keypoints', 'keypoints_visible'}
    assert keys_of(GentleHalfBody) == keys_of(RandomHalfBody)
    assert keys_of(GetBBoxCenterScale) == keys_of(RandomFlip) == keys_of(SquareAffine) == set()
    assert keys_of(AlignedAffine) == keys_of(BoxOfJoints) == {'keypoints'}


def test_unknown_types_are_left_to_the_registry():
    assert [step.name for step in walk([dict(type='NoSuchTransform'), 5, None], 'p')] == []
