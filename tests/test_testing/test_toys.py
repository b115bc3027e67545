"""Toys behave like hosts: they learn, they have every kind of tensor, they are reproducible."""

import pytest
import torch
from mmengine.dataset import pseudo_collate

from mmdistill.testing import (
    ToyCloudModel,
    ToyDataset,
    ToyMetric,
    ToyModel,
    assert_same_state,
    toy_runner,
)


def test_model_has_every_kind_of_tensor():
    state = ToyModel().state_dict()
    kinds = {value.dtype for value in state.values()}
    assert kinds == {torch.float32, torch.int64}
    assert any('running_mean' in name for name in state)


@pytest.mark.parametrize('points, cls', [(0, ToyModel), (5, ToyCloudModel)])
def test_all_modes_on_vectors_and_clouds(points, cls):
    dataset, model = ToyDataset(points=points), cls().eval()
    batch = pseudo_collate([dataset[index] for index in range(4)])
    assert model(**batch, mode='tensor').shape == (4, 3)
    assert model(**batch, mode='loss')['loss_cls'].ndim == 0
    found = model(**batch, mode='predict')
    torch.testing.assert_close(sum(each.pred_scores.sum() for each in found), torch.tensor(4.0))
    with pytest.raises(ValueError, match="got 'train'"):
        model(**batch, mode='train')


def test_weights_of_samples_scale_the_loss():
    dataset, model = ToyDataset(), ToyModel().eval()
    batch = pseudo_collate([dataset[0], dataset[0]])
    whole = model(**batch, mode='loss')['loss_cls']
    for sample, weight in zip(batch['data_samples'], (0.0, 1.0), strict=True):
        sample.weight = torch.tensor(weight)
    torch.testing.assert_close(model(**batch, mode='loss')['loss_cls'], whole / 2)


def test_data_are_a_function_of_seed_and_generator():
    a, b, other = ToyDataset(seed=3), ToyDataset(seed=3), ToyDataset(seed=4)
    assert_same_state(a.vectors, b.vectors)
    assert not torch.equal(a.vectors, other.vectors)
    noisy = ToyDataset(jitter=0.1, branches=('sup', 'unsup_student'))
    draws = []
    for _ in range(2):
        torch.manual_seed(5)
        draws.append(noisy[2]['inputs'])
    assert_same_state(draws[0], draws[1])
    assert not torch.equal(draws[0]['sup'], draws[0]['unsup_student'])


def test_a_toy_learns_its_data(tmp_path):
    runner = toy_runner(tmp_path, ToyModel(), max_iters=40, batch_size=8)
    model, dataset = runner.train().eval(), ToyDataset()
    accuracy = (model(dataset.vectors).argmax(1) == dataset.labels).float().mean()
    assert accuracy > 0.9


def test_metric_is_the_share_of_right_samples():
    metric = ToyMetric()
    assert metric.compute_metrics([True, True, False, False]) == {'accuracy': 50.0}
    assert metric.compute_metrics([]) == {'accuracy': 0.0}
