"""SemiPose: with labelled people it is mmpose's own training, and it reads nothing hidden."""

import copy

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from mmpose.datasets.transforms import GenerateTarget
from mmpose.structures import PoseDataSample
from semi_cases import (
    AUX,
    JOINTS,
    MSRA,
    UDP,
    batch,
    copied,
    estimator,
    gradients,
    losses_of,
    of,
    optimizer,
    plain,
    semi,
    trained,
    trs,
)

from mmdistill.core.errors import UserError
from mmdistill.pose import SemiPose
from mmdistill.pose.semi_pose import heatmap_head
from mmdistill.testing import assert_same_state

pytestmark = pytest.mark.usefixtures('mmpose_scope')
CODECS = pytest.mark.parametrize('codec', [MSRA, UDP], ids=['msra', 'udp'])


def host_batch(data, codec):
    """The labelled people of a batch with the targets of mmpose's own pipeline."""
    made = dict(inputs=[], data_samples=[])
    for image, sample in zip(data['inputs'], data['data_samples'], strict=True):
        if not sample.labeled:
            continue
        given = sample.gt_instances
        results = GenerateTarget(encoder=dict(codec))(
            dict(
                transformed_keypoints=given.keypoints.numpy().copy(),
                keypoints_visible=given.keypoints_visible.numpy().copy(),
                keypoints=given.keypoints.numpy().copy(),
            )
        )
        packed = PoseDataSample(metainfo=dict(input_size=codec['input_size']))
        packed.gt_fields = InstanceData()
        packed.gt_fields.set_field(torch.from_numpy(results['heatmaps']), 'heatmaps')
        labels = InstanceData(keypoint_weights=torch.from_numpy(results['keypoint_weights']))
        packed.gt_instance_labels = labels
        made['inputs'].append(image)
        made['data_samples'].append(packed)
    return made


def host_trained(model, batches, codec):
    """Trains mmpose's estimator on the labelled people."""
    optim = optimizer(model)
    for data in batches:
        model.train_step(host_batch(data, codec), optim)
    return model


@CODECS
@pytest.mark.parametrize('unlabeled', [0, 2])
def test_semi_pose_trains_as_mmpose_does(codec, unlabeled):
    batches = [batch(3, unlabeled, seed) for seed in range(4)]
    ours = trained(semi(codec=codec), batches)
    theirs = host_trained(plain(codec), batches, codec)
    found, wanted = ours.student.state_dict(), theirs.state_dict()
    assert found.keys() == wanted.keys()
    start = plain(codec).state_dict()
    for name, value in wanted.items():
        moved = (value.double() - start[name]).abs().max()
        gap = float((found[name].double() - value).abs().max())
        assert gap <= 1e-3 * float(moved) + 1e-6, (name, gap, float(moved))
    assert not torch.equal(wanted['head.final_layer.weight'], start['head.final_layer.weight'])


@CODECS
def test_trs_without_weights_trains_as_mmpose_does(codec):
    off = dict(aux=(), teacher=dict(weight=0), reviewer=dict(weight=0))
    batches = [batch(3, 2, seed) for seed in range(4)]
    ours = trained(trs(codec=codec, **off), batches)
    assert_same_state(ours.student, trained(semi(codec=codec), batches).student)


def test_auxiliary_heads_of_weight_0_leave_the_main_head_alone_and_get_gradients():
    silent = [dict(each, weight=0) for each in AUX]
    data = batch(3, 0)
    model, host = semi(aux=silent), plain(aux=silent)
    found = gradients(model, data)
    host.parse_losses(host(**host.data_preprocessor(host_batch(data, MSRA), True), mode='loss'))[
        0
    ].backward()
    for name, value in host.named_parameters():
        assert torch.allclose(of(found, 'student')[name], value.grad, rtol=1e-4, atol=1e-8), name
    heads = of(found, 'levels')
    assert heads.keys() == dict(model.levels.named_parameters()).keys()
    assert all(float(value.abs().max()) == 0 for value in heads.values())
    loud = of(gradients(semi(aux=AUX, heads=1), data), 'levels')
    assert all(float(value.abs().max()) > 0 for value in loud.values())


def test_levels_answer_in_the_heatmaps_size_and_are_named():
    model = semi(aux=AUX)
    levels, hard = model.student_levels(torch.rand(3, 3, 96, 64), torch.rand(2, 3, 96, 64))
    assert [each.shape for each in levels] == [(3, JOINTS, 24, 16)] * 3
    assert [each.shape for each in hard] == [(2, JOINTS, 24, 16)] * 3
    assert [*losses_of(model, batch())] == [
        'sup_loss_kpt', 'sup_loss_layer3', 'sup_loss_layer2'
    ]  # fmt: skip


@pytest.mark.parametrize('aux', [(), AUX], ids=['plain', 'levels'])
def test_two_passes_are_two_passes_of_the_student(aux):
    model = semi(aux=aux, joint_forward=False)
    one, two = torch.randn(3, 3, 96, 64), torch.randn(2, 3, 96, 64)
    wanted = copy.deepcopy(model)
    first, second = model.student_levels(one, two)
    assert_same_state([*first], wanted.levels(wanted.student, one))
    assert_same_state([*second], wanted.levels(wanted.student, two))
    assert_same_state(model, wanted)
    together = copy.deepcopy(wanted)
    together.joint_forward = True
    joint = together.student_levels(one, two)
    assert_same_state(
        [*joint[0]], [each[:3] for each in wanted.levels(wanted.student, torch.cat([one, two]))]
    )
    assert not torch.equal(joint[0][0], first[0])


def test_two_passes_and_one_agree_without_batch_statistics():
    model = semi(aux=AUX).eval()
    one, two = torch.randn(3, 3, 96, 64), torch.randn(2, 3, 96, 64)
    joint = model.student_levels(one, two)
    model.joint_forward = False
    apart = model.student_levels(one, two)
    for a, b in zip(joint[0] + joint[1], apart[0] + apart[1], strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_loss_leaves_no_trace_but_the_students_statistics():
    model = semi(aux=AUX)
    before = copied(model)
    first = losses_of(model, batch())
    changed = [
        name for name, value in copied(model).items() if not torch.equal(value, before[name])
    ]
    assert changed and all('running_' in n or 'num_batches' in n for n in changed)
    assert all(name.startswith(('student.', 'levels.')) for name in changed)
    second = losses_of(model, batch())
    assert_same_state({k: v.detach() for k, v in first.items()},
                      {k: v.detach() for k, v in second.items()})  # fmt: skip


@pytest.mark.parametrize('make', [semi, trs], ids=['semi', 'trs'])
def test_joints_of_unlabelled_people_are_never_read(make):
    def corrupted(data, value):
        data = copy.deepcopy(data)
        for sample in data['data_samples']:
            if not sample.labeled:
                joints = sample.hidden_keypoints
                sample.set_metainfo(dict(hidden_keypoints=np.full_like(joints, value)))
        return data

    batches = [batch(2, 3, seed) for seed in range(3)]
    wanted = trained(make(), batches)
    bad = trained(make(), [corrupted(data, float('nan')) for data in batches])
    assert_same_state(bad, wanted)
    without = copy.deepcopy(batches)
    for data in without:
        for sample in data['data_samples']:
            if not sample.labeled:
                del sample.hidden_keypoints, sample.hidden_visible
    assert_same_state(trained(make(), without), wanted)
    if make is trs:
        right = [trained(make(), [corrupted(batches[0], v)]).pseudo_stats for v in (1e6, 20.0)]
        assert int(right[0].true_positive) == 0 < int(right[1].true_positive)


def test_other_heads_and_codecs_are_refused_in_words():
    simcc = dict(
        type='mmpose.SimCCHead',
        in_channels=32,
        out_channels=JOINTS,
        input_size=(64, 96),
        in_featuremap_size=(2, 3),
        deconv_out_channels=None,
        decoder=dict(type='SimCCLabel', input_size=(64, 96)),
    )
    regression = dict(
        type='mmpose.RegressionHead',
        in_channels=32,
        num_joints=JOINTS,
        decoder=dict(type='RegressionLabel', input_size=(64, 96)),
    )
    for head, name in ((simcc, 'SimCCHead'), (regression, 'RegressionHead')):
        with pytest.raises(UserError, match=f'is {name}: .* needs a HeatmapHead'):
            SemiPose(estimator(head=head))
    bare = estimator()
    bare['head']['decoder'] = None
    with pytest.raises(UserError, match='with a decoder'):
        SemiPose(bare)
    with pytest.raises(UserError, match='is none'):
        heatmap_head(torch.nn.Identity())
    offsets = dict(UDP, heatmap_type='combined')
    for codec in (offsets, dict(type='MegviiHeatmap', input_size=(64, 96), heatmap_size=(16, 24),
                                kernel_size=3)):  # fmt: skip
        given = estimator(codec)
        given['head']['out_channels'] = JOINTS * (3 if codec is offsets else 1)
        with pytest.raises(UserError, match='use MSRAHeatmap'):
            SemiPose(given)


def test_a_batch_that_teaches_nothing_is_refused_in_words():
    with pytest.raises(UserError, match='no labelled people'):
        losses_of(semi(), batch(0, 2))
