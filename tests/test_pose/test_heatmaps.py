"""Where heatmap pixels lie is what mmpose's codecs say."""

import pytest
import torch
from mmpose.codecs import MegviiHeatmap, MSRAHeatmap, UDPHeatmap
from pose_cases import (
    CODECS,
    SIZES,
    centroids,
    encode,
    random_joints,
)

from mmdistill.core.errors import UserError
from mmdistill.pose.heatmaps import HeatmapGrid

NAMES = sorted(CODECS)


def grid_of(name):
    """The grid of one of the codecs."""
    return HeatmapGrid.from_codec(CODECS[name]())


@pytest.mark.parametrize('name', NAMES)
def test_points_go_to_the_heatmap_and_back(name):
    grid, points = grid_of(name), random_joints(8)
    back = grid.to_input(grid.to_heatmap(points))
    assert (back - points).abs().max() < 1e-12


def test_the_conventions_are_those_of_the_codecs():
    """Corners by hand: MSRA keeps the origin and the far edge, UDP the outermost pixels."""
    corners = torch.tensor([[0.0, 0.0], [191.0, 255.0], [192.0, 256.0]])
    msra, udp = grid_of('msra'), grid_of('udp')
    expected = torch.tensor([[0.0, 0.0], [47.75, 63.75], [48.0, 64.0]])
    torch.testing.assert_close(msra.to_heatmap(corners), expected)
    torch.testing.assert_close(
        udp.to_heatmap(corners)[:2], torch.tensor([[0.0, 0.0], [47.0, 63.0]])
    )
    assert msra.center == (96.0, 128.0) and udp.center == (95.5, 127.5)
    half = HeatmapGrid(**SIZES, convention='half_pixel')
    # the outer edges of the maps are the same place
    torch.testing.assert_close(
        half.to_heatmap(torch.tensor([[-0.5, -0.5], [191.5, 255.5]])),
        torch.tensor([[-0.5, -0.5], [47.5, 63.5]]),
    )


@pytest.mark.parametrize('name', ['msra-unbiased', 'udp'])
def test_the_codec_draws_where_the_grid_says(name):
    codec, grid, joints = CODECS[name](), grid_of(name), random_joints(6, margin=40.0)
    gap = centroids(encode(codec, joints).double()) - grid.to_heatmap(joints)
    assert gap.abs().max() < 0.02


def test_the_biased_codec_draws_at_the_nearest_pixel():
    codec, grid, joints = CODECS['msra'](), grid_of('msra'), random_joints(6, margin=40.0)
    places = centroids(encode(codec, joints).double())
    assert (places - (grid.to_heatmap(joints) + 0.5).floor()).abs().max() < 1e-5


def test_contains_asks_for_the_nearest_pixel():
    grid = grid_of('msra')
    points = torch.tensor([[-0.5, 0.0], [-0.6, 0.0], [47.4, 63.4], [47.5, 1.0], [3.0, 63.5]])
    assert grid.contains(points).tolist() == [True, False, True, False, False]
    assert not grid.contains(torch.full((1, 2), torch.nan))


def test_other_codecs_and_wrong_values_are_refused():
    with pytest.raises(UserError, match='MegviiHeatmap'):
        HeatmapGrid.from_codec(MegviiHeatmap(**SIZES, kernel_size=11))
    with pytest.raises(UserError, match='combined'):
        HeatmapGrid.from_codec(UDPHeatmap(**SIZES, heatmap_type='combined'))
    for wrong in (
        dict(convention='dark'),
        dict(refinement='half'),
        dict(heatmap_size=(1, 64)),
        dict(blur_kernel_size=4),
    ):
        with pytest.raises(UserError):
            HeatmapGrid(**(SIZES | wrong))
    codec = MSRAHeatmap(**SIZES, sigma=2, unbiased=True, blur_kernel_size=17)
    assert HeatmapGrid.from_codec(codec) == HeatmapGrid(
        **SIZES, convention='msra', refinement='dark', blur_kernel_size=17
    )
