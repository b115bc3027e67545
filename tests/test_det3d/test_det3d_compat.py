"""Fixes for spconv: sparse convolutions train on the CPU, like a dense one."""

import pytest
import torch

from mmdistill.det3d import compat

spconv = pytest.importorskip('spconv.pytorch')


@pytest.mark.skipif(torch.cuda.is_available(), reason='the fix is for machines without CUDA')
def test_sparse_gradients_equal_dense_ones():
    assert compat.fix_spconv_cpu_stream()
    torch.manual_seed(0)
    sparse = spconv.SubMConv3d(2, 3, 3, padding=1, bias=False)
    every = torch.cartesian_prod(*[torch.arange(4)] * 3)
    indices = torch.cat([torch.zeros(64, 1, dtype=torch.long), every], 1).int()
    features = torch.randn(64, 2)
    out = sparse(spconv.SparseConvTensor(features, indices, [4, 4, 4], 1)).features
    out.square().sum().backward()

    weight = sparse.weight.detach().permute(0, 4, 1, 2, 3).clone().requires_grad_()
    dense = torch.nn.functional.conv3d(
        features.view(1, 4, 4, 4, 2).permute(0, 4, 1, 2, 3), weight, padding=1
    )
    dense.square().sum().backward()
    torch.testing.assert_close(out.detach(), dense[0].permute(1, 2, 3, 0).reshape(64, 3).detach())
    torch.testing.assert_close(sparse.weight.grad, weight.grad.permute(0, 2, 3, 4, 1))


def test_patches_are_listed():
    assert [patch.what for patch in compat.PATCHES] == ['spconv.pytorch.ops.get_current_stream']
