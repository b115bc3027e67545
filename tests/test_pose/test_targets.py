"""Targets drawn on the device are those of mmpose's codecs."""

import numpy as np
import pytest
import torch
from mmpose.codecs import MegviiHeatmap, MSRAHeatmap, UDPHeatmap
from pose_cases import CODECS, SIZES, uniform

from mmdistill.core.errors import UserError
from mmdistill.pose.heatmaps import HeatmapGrid
from mmdistill.pose.targets import TargetMaker, gaussian_targets

NAMES = sorted(CODECS)
MORE = {
    'msra-sigma-3': lambda: MSRAHeatmap((288, 384), (72, 96), sigma=3),
    'msra-sigma-1.5': lambda: MSRAHeatmap(**SIZES, sigma=1.5),
    'udp-sigma-1.5': lambda: UDPHeatmap(**SIZES, sigma=1.5),
    'msra-square': lambda: MSRAHeatmap((64, 64), (16, 16), sigma=1),
}
ALL = CODECS | MORE


def joints_everywhere(codec, batch=12, count=17, seed=3):
    """(B, K, 2) float64 joints, most of them on the map, others up to half a crop outside."""
    size = torch.tensor(codec.input_size, dtype=torch.float64)
    return (uniform(batch, count, 2, seed=seed) * 2 - 0.5) * size


def exact(codec):
    """The codec with its scale in double precision; it keeps 191 / 47 as a float32."""
    less = 1 if isinstance(codec, UDPHeatmap) else 0
    codec.scale_factor = (np.array(codec.input_size) - less) / (np.array(codec.heatmap_size) - less)
    return codec


def encoded(codec, points, weights):
    """What the codec makes of each sample: heatmaps and weights, stacked."""
    found = [
        codec.encode(each[None].numpy(), seen[None].numpy())
        for each, seen in zip(points, weights, strict=True)
    ]
    maps = np.stack([each['heatmaps'] for each in found])
    kept = np.stack([each['keypoint_weights'][0] for each in found])
    return torch.from_numpy(maps), torch.from_numpy(kept)


@pytest.mark.parametrize('name', sorted(ALL))
def test_targets_equal_the_codecs(name):
    codec = ALL[name]()
    points = joints_everywhere(codec)
    weights = (uniform(*points.shape[:2], seed=4) > 0.2).double()
    # and joints on the border of truncation, of the map and of visibility
    points[0, :6] = torch.tensor(
        [[-2.0, -2.0], [-1.9, 0.0], [0.0, 0.0], [191.0, 255.0], [-30.0, 8.0], [-22.0, 8.0]]
    )
    weights[1, :4] = torch.tensor([0.7, 0.3, 0.5, 2.0], dtype=torch.float64)
    rounded, _ = encoded(codec, points, weights)
    expected, kept = encoded(exact(codec), points, weights)
    heatmaps, found = TargetMaker.from_codec(codec)(points, weights)
    assert heatmaps.dtype == torch.float64 and heatmaps.shape == expected.shape
    assert (heatmaps - expected).abs().max() < 1e-7  # they end in float32
    assert (heatmaps - rounded).abs().max() < 2e-6
    assert torch.equal(found, kept)
    assert (kept == 0).any() and (kept == 1).any() and (expected.flatten(2).amax(-1) == 0).any()


@pytest.mark.parametrize('name', NAMES)
def test_single_precision_is_as_good(name):
    codec = CODECS[name]()
    points = joints_everywhere(codec).float()
    weights = torch.ones(points.shape[:2])
    heatmaps, kept = TargetMaker.from_codec(codec)(points, weights)
    expected, theirs = encoded(codec, points, weights)
    assert heatmaps.dtype == torch.float32 and (heatmaps - expected).abs().max() < 5e-6
    assert torch.equal(kept, theirs)


def test_truncation_is_not_the_floor():
    """u = -0.9 rounds to pixel 0 by truncation of -0.4; the floor would say -1."""
    maker = TargetMaker(HeatmapGrid(**SIZES))
    heatmaps, _ = maker(torch.tensor([[[-3.6, 40.0]]]), torch.ones(1, 1))
    assert heatmaps[0, 0, 10, 0] == 1


def test_joints_that_are_not_numbers_miss_the_map():
    points = torch.tensor([[[torch.nan, 3.0], [torch.inf, 3.0], [3.0, -torch.inf], [8.0, 8.0]]])
    for unbiased in (False, True):
        maker = TargetMaker(HeatmapGrid(**SIZES), unbiased=unbiased)
        heatmaps, weights = maker(points, torch.ones(1, 4))
        assert weights.tolist() == [[0, 0, 0, 1]]
        assert not heatmaps[0, :3].any() and heatmaps[0, 3, 2, 2] == 1


def test_a_sample_does_not_see_its_neighbours():
    maker = TargetMaker.from_codec(CODECS['udp']())
    points = joints_everywhere(CODECS['udp'](), batch=4)
    weights = torch.ones(4, 17, dtype=torch.float64)
    together = maker(points, weights)
    for n in range(4):
        alone = maker(points[n : n + 1], weights[n : n + 1])
        assert torch.equal(alone[0][0], together[0][n]) and torch.equal(alone[1][0], together[1][n])


def test_half_precision_points_and_bool_weights():
    maker = TargetMaker(HeatmapGrid(**SIZES))
    points = torch.tensor([[[16.0, 24.0], [40.0, 8.0]]])
    exact, _ = maker(points, torch.tensor([[1.0, 0.0]]))
    heatmaps, weights = maker(points.half(), torch.tensor([[True, False]]))
    assert torch.equal(heatmaps, exact) and weights.tolist() == [[1, 0]]
    assert heatmaps.dtype == weights.dtype == torch.float32


def test_inputs_stay_as_they_are_and_no_gradient_flows():
    points = torch.full((1, 2, 2), 20.0, requires_grad=True)
    weights = torch.ones(1, 2)
    heatmaps, kept = gaussian_targets(points, weights, HeatmapGrid(**SIZES))
    kept.zero_()
    assert not heatmaps.requires_grad and weights.all()


def test_other_codecs_and_wrong_values_are_refused():
    with pytest.raises(UserError, match='MegviiHeatmap'):
        TargetMaker.from_codec(MegviiHeatmap(**SIZES, kernel_size=11))
    with pytest.raises(UserError, match='combined'):
        TargetMaker.from_codec(UDPHeatmap(**SIZES, heatmap_type='combined'))
    with pytest.raises(UserError, match='sigma'):
        TargetMaker(HeatmapGrid(**SIZES), sigma=0)
    with pytest.raises(ValueError, match='weights'):
        gaussian_targets(torch.zeros(2, 3, 2), torch.ones(2, 3, 1), HeatmapGrid(**SIZES))
