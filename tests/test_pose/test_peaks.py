"""Decoding a batch gives what mmpose's codecs decode one by one."""

import numpy as np
import pytest
import torch
from mmpose.codecs import UDPHeatmap
from pose_cases import (
    CODECS,
    SIZES,
    encode,
    gaussians,
    random_joints,
    uniform,
    well_inside,
)

from mmdistill.pose.heatmaps import HeatmapGrid
from mmdistill.pose.peaks import decode, peaks

NAMES = sorted(CODECS)


def grid_of(name):
    """The grid of one of the codecs."""
    return HeatmapGrid.from_codec(CODECS[name]())


def noisy(batch, seed=3):
    """Heatmaps of a network that is not sure: Gaussians of several heights, and noise."""
    joints = random_joints(batch, seed=seed, margin=-10.0)
    maps = gaussians(joints, HeatmapGrid(**SIZES)) * uniform(batch, 17, 1, 1, seed=seed + 1)
    return (maps + 0.05 * uniform(*maps.shape, seed=seed + 2) - 0.025).float()


def in_host_pixels(grid, places):
    """What the host's decoder answers for a place on the heatmap."""
    if grid.convention != 'udp':
        return grid.to_input(places)
    # UDPHeatmap.decode multiplies by W where its encoder divides by W - 1
    last = torch.tensor(grid.heatmap_size) - 1
    return places / last * torch.tensor(grid.input_size)


@pytest.mark.parametrize('source', ['codec', 'noisy'])
@pytest.mark.parametrize('name', NAMES)
def test_batched_decoding_equals_the_host(name, source):
    codec, grid = CODECS[name](), grid_of(name)
    maps = encode(codec, random_joints(4)) if source == 'codec' else noisy(4)
    places, scores = decode(maps, grid)
    for row in range(4):
        host, host_scores = codec.decode(maps[row].numpy())
        ours = in_host_pixels(grid, places[row].double())
        assert np.abs(ours.numpy() - host[0]).max() < 2e-3
        np.testing.assert_array_equal(scores[row].numpy(), host_scores[0])


@pytest.mark.parametrize('name', NAMES)
def test_weak_maps_are_decoded_as_the_host_does(name):
    """Values near the floor under the logarithm."""
    codec, grid = CODECS[name](), grid_of(name)
    maps = 0.00107 * encode(codec, random_joints(2))
    ours = in_host_pixels(grid, decode(maps, grid)[0].double())
    host = np.stack([codec.decode(each.numpy())[0][0] for each in maps])
    assert np.abs(ours.numpy() - host).max() < 2e-3


@pytest.mark.parametrize('size', [3, 5, 7, 9, 17])
def test_every_blur_kernel_equals_the_host(size):
    codec = UDPHeatmap(**SIZES, sigma=2, blur_kernel_size=size)
    grid, maps = HeatmapGrid.from_codec(codec), noisy(2)
    ours = in_host_pixels(grid, decode(maps, grid)[0].double())
    host = np.stack([codec.decode(each.numpy())[0][0] for each in maps])
    # small kernels leave noise whose curvature is near zero, and 1 / curvature grows rounding
    gap = np.abs(ours.numpy() - host).max(-1)
    assert np.quantile(gap, 0.9) < 2e-3


@pytest.mark.parametrize('name', ['msra-unbiased', 'udp'])
def test_decoding_finds_the_joint(name):
    codec, grid, joints = CODECS[name](), grid_of(name), random_joints(6, margin=12.0)
    truth = grid.to_heatmap(joints)
    gap = (decode(encode(codec, joints), grid)[0] - truth)[well_inside(truth, grid)].norm(dim=-1)
    assert gap.mean() < 0.01 and gap.max() < 0.03


@pytest.mark.parametrize('name', NAMES)
def test_a_map_without_anything_positive_has_no_joint(name):
    maps = torch.zeros(2, 3, 64, 48)
    maps[1, 2, 10, 20] = 0.5
    places, scores = decode(maps, grid_of(name))
    assert (places[0] == -1).all() and (scores[0] == 0).all()
    assert not grid_of(name).contains(places)[0].any()
    assert places[1, 2].tolist() == pytest.approx([20, 10], abs=1e-4) and scores[1, 2] == 0.5


@pytest.mark.parametrize('name', NAMES)
def test_a_batch_is_decoded_as_each_alone(name):
    maps, grid = noisy(5), grid_of(name)
    together = decode(maps, grid)
    for row in range(5):
        alone = decode(maps[row : row + 1], grid)
        assert torch.equal(together[0][row], alone[0][0])
        assert torch.equal(together[1][row], alone[1][0])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_keep_the_place(dtype):
    """A heatmap coordinate has no room in bfloat16: places come out in float32 at least."""
    grid, joints = grid_of('udp'), random_joints(2)
    maps = gaussians(joints, grid)
    places, _ = decode(maps.to(dtype), grid)
    assert places.dtype == torch.promote_types(dtype, torch.float32)
    assert (places - grid.to_heatmap(joints)).abs().mean() < 0.05
    assert peaks(maps.to(dtype))[1].dtype == dtype


def test_autocast_does_not_round_the_places():
    maps, grid = noisy(2), grid_of('udp')
    plain = decode(maps, grid)[0]
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(decode(maps, grid)[0], plain)
