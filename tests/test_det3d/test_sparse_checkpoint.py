"""Plain checkpoints with sparse convolutions fill both branches, kernel by kernel.

mmdet3d's loader permutes the kernels of a checkpoint whose metadata does not say version 2;
renamed keys alone have no metadata.
"""

from collections import OrderedDict

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import load_checkpoint, load_state_dict
from torch import nn

from mmdistill.core.compat import safe_load
from mmdistill.core.plain_checkpoint import plain_checkpoint
from mmdistill.core.semi_model import SemiModel
from mmdistill.testing import assert_same_state, state_differences, toy_runner

spconv = pytest.importorskip('spconv.pytorch')

KERNELS = {'encoder.0.weight', 'encoder.3.weight'}


class SparseHost(BaseModel):
    """Two sparse convolutions as SECOND's middle encoder has them, BatchNorm, a dense head."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        sub = spconv.SubMConv3d(3, channels, 3, padding=1, bias=False, indice_key='subm')
        down = spconv.SparseConv3d(channels, channels, 3, stride=2, padding=1, bias=False)
        self.encoder = spconv.SparseSequential(sub, nn.BatchNorm1d(channels), nn.ReLU(), down)
        self.head = nn.Conv3d(channels, 2, 1)

    def forward(self, inputs: torch.Tensor, data_samples=None, mode: str = 'tensor'):
        """(1, 2, 4, 4, 4) from (N, 3) features of the first N cells of an 8 x 8 x 8 grid."""
        cells = torch.arange(0, 8 * len(inputs), 8)
        place = torch.stack([0 * cells, cells // 64, cells // 8 % 8, (cells * 3) % 8], 1)
        grid = spconv.SparseConvTensor(inputs, place.int(), [8, 8, 8], 1)
        return self.head(self.encoder(grid).dense())


@pytest.fixture(autouse=True)
def patched_loader(host):
    """mmdet3d's loader of sparse convolutions is in place."""
    assert spconv.SubMConv3d._version == 2


def new_host(seed: int = 0) -> SparseHost:
    """A host with values of its own in every tensor."""
    torch.manual_seed(seed)
    plain = SparseHost().eval()
    for each in plain.state_dict().values():
        each.copy_(torch.rand(each.shape) + 0.1 if each.is_floating_point() else each + seed)
    return plain


def outputs(*models: nn.Module) -> list[torch.Tensor]:
    """Predictions for the same sparse input."""
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return [model.eval()(features) for model in models]


def by_torch(model, path):
    model.load_state_dict(safe_load(path)['state_dict'], strict=True)


def by_mmengine(model, path):
    load_checkpoint(model, str(path), map_location='cpu', strict=True)


def by_runner(model, path):
    toy_runner(path.parent / 'run', model, load_from=str(path)).load_or_resume()


@pytest.mark.parametrize('load', [by_torch, by_mmengine, by_runner])
def test_both_branches_equal_the_host_in_every_tensor_and_prediction(load, tmp_path):
    plain, model = new_host(5), SemiModel(new_host(6))
    torch.save(dict(meta={}, state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    load(model, tmp_path / 'plain.pth')
    assert_same_state(model.student, plain)
    assert_same_state(model.teacher, plain)
    expected, student, teacher = outputs(plain, model.student, model.teacher)
    assert expected.abs().sum() > 0
    assert_same_state([student, teacher], [expected, expected])


def test_the_trap_is_real():
    """Keys with a prefix and no metadata leave every sparse kernel different, without an error."""
    plain, model = new_host(5), SemiModel(new_host(6))
    renamed = OrderedDict(
        (f'{branch}.{key}', value)
        for branch in ('student', 'teacher')
        for key, value in plain.state_dict().items()
    )
    load_state_dict(model, renamed, strict=False)
    different = {line.split(':')[0] for line in state_differences(model.student, plain)}
    assert different == KERNELS


def test_new_model_has_equal_branches():
    model = SemiModel(new_host(5))
    model.init_weights()
    assert_same_state(model.student, model.teacher)


@pytest.mark.parametrize('branch', ['student', 'teacher'])
def test_exported_branch_is_the_hosts_own_checkpoint(branch, tmp_path):
    model = SemiModel(new_host(5))
    model.teacher.load_state_dict(new_host(7).state_dict())
    torch.save(dict(meta={}, state_dict=model.state_dict()), tmp_path / 'semi.pth')
    exported = plain_checkpoint(safe_load(tmp_path / 'semi.pth'), branch)
    torch.save(exported, tmp_path / 'plain.pth')
    plain = SparseHost()
    load_checkpoint(plain, str(tmp_path / 'plain.pth'), map_location='cpu', strict=True)
    assert_same_state(plain, model.branch(branch))
    assert_same_state(*outputs(plain, model.branch(branch)))


def test_checkpoint_of_the_semi_model_keeps_the_branches_apart(tmp_path):
    model, again = SemiModel(new_host(5)), SemiModel(new_host(6))
    model.teacher.load_state_dict(new_host(7).state_dict())
    torch.save(dict(meta={}, state_dict=model.state_dict()), tmp_path / 'semi.pth')
    load_checkpoint(again, str(tmp_path / 'semi.pth'), map_location='cpu', strict=True)
    assert_same_state(again, model)
    assert state_differences(again.student, again.teacher)
