"""What CenterPoint says of its boxes: its own score, and the heatmap under their centres."""

import pytest
import torch
from centerpoint_cfg import center_hssda_cfg, centerpoint
from det3d_scenes import batch_of, boxes_of, initialised, pointpillars

from mmdistill.core.errors import UserError
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.center_scores import HeatmapPeak, heatmap_peaks
from mmdistill.det3d.score_providers import build_score

LOW, CELL = torch.tensor([0.0, -12.8]), torch.tensor([0.8, 0.8])


@pytest.fixture
def model(host):
    """HSSDA around the tiny CenterPoint."""

    def build(**changes):
        torch.manual_seed(0)
        cfg = center_hssda_cfg(**changes)
        return initialised(host.HSSDA(**{k: v for k, v in cfg.items() if k != 'type'}))

    return build


def test_peaks_are_read_at_the_cells_of_the_centres():
    heatmaps = torch.arange(3 * 32 * 32.0).view(3, 32, 32)
    boxes, labels = boxes_of([(0.0, -12.8, 0), (0.79, -12.01, 0), (0.8, -12.8, 1), (25.5, 12.7, 2)])
    found = heatmap_peaks(heatmaps, boxes, labels, LOW, CELL)
    assert found.tolist() == [0, 0, 1024 + 1, 3 * 1024 - 1]


def test_there_is_no_peak_outside_the_map():
    heatmaps = torch.ones(3, 32, 32)
    boxes, labels = boxes_of([(-0.01, 0), (25.61, 0), (5, -12.81), (5, 12.81), (5, 0)])
    assert heatmap_peaks(heatmaps, boxes, labels, LOW, CELL).tolist() == [0, 0, 0, 0, 1]
    assert heatmap_peaks(heatmaps, boxes[:0], labels[:0], LOW, CELL).shape == (0,)


def test_the_score_is_cls_while_the_offset_stays_in_the_cell(host):
    """Hand-made maps: one peak of 0.9, a neighbour to its right of 0.4, an offset of 0.5 or 1.5."""
    from mmdet3d.registry import MODELS
    from mmdet3d.structures import LiDARInstance3DBoxes
    from mmengine.config import ConfigDict

    head = MODELS.build(ConfigDict(centerpoint(head='mmdistill.SoftCenterHead'))).pts_bbox_head

    def predict(offset):
        maps = {
            n: torch.zeros(1, c, 32, 32) for n, c in dict(reg=2, height=1, dim=3, rot=2).items()
        }
        maps['heatmap'] = torch.full((1, 3, 32, 32), -9.0)
        maps['heatmap'][0, 1, 10, 20] = torch.tensor(0.9).logit()
        maps['heatmap'][0, 1, 10, 21] = torch.tensor(0.4).logit()
        maps['heatmap'][0, 2, 10, 21] = torch.tensor(0.3).logit()
        maps['reg'][0, 0, 10, 20], maps['reg'][0, 1] = offset, 0.5
        found = head.predict_by_feat(([maps],), [dict(box_type_3d=LiDARInstance3DBoxes)])[0]
        first = found[found.scores_3d.argmax()[None]]
        assert first.labels_3d.tolist() == [1]
        return float(first.scores_3d), float(first.peak_scores_3d)

    assert predict(0.5) == pytest.approx((0.9, 0.9))
    assert predict(1.5) == pytest.approx((0.9, 0.4))


def test_the_provider_passes_the_detectors_scores_on():
    boxes, labels = boxes_of([(5, 0), (9, 4)])
    batch, scores = BoxBatch.from_lists([boxes], [labels]), torch.tensor([[0.3, 0.8]])
    assert HeatmapPeak()(batch, batch, dict(peak_scores_3d=scores)) is scores
    assert isinstance(build_score('heatmap_peak'), HeatmapPeak)
    assert build_score('heatmap_peak').name == 'heatmap_peak'
    with pytest.raises(UserError, match=r"CenterPoint.*scores=\('cls', 'view_iou'\)"):
        HeatmapPeak()(batch, batch, {})


def test_scores_of_a_batch_are_padded_with_zeros(model):
    made = model(teacher_test_cfg=dict(score_threshold=0.0, post_max_size=6))
    scenes = made.read_batch(*batch_of((0, [(9, 2)], False), (1, [], False)))
    found, extra = made.teacher_predict(scenes.points)
    assert set(extra) == {'peak_scores_3d'} and extra['peak_scores_3d'].shape == found.valid.shape
    assert bool((extra['peak_scores_3d'][~found.valid] == 0).all())
    assert found.valid.any()
    _, _, scores = made.judge(scenes.points, scenes.frames, purpose=1)
    assert torch.equal(scores[..., 0], extra['peak_scores_3d'])
    # ambiguous weights are products of the scores there are
    assert made.score_names == ['heatmap_peak', 'view_iou'] and made.weight_columns == [0, 1]


def test_a_detector_with_anchors_has_no_peak(model):
    made = model(detector=pointpillars())
    with pytest.raises(UserError, match="'heatmap_peak' needs.*a detector with anchors"):
        made.loss(*batch_of((0, [(9, 2)], False)))


def test_the_threshold_has_to_be_given_a_start(model):
    with pytest.raises(UserError, match=r"no threshold for the scores \['heatmap_peak'\]"):
        model(thresholds=None)
