"""Object bank: only what was put in, where it stood, never on top of anything."""

import math

import pytest
import torch
from det3d_scenes import CLASSES, box_row, boxes_of, cloud

from mmdistill.core.errors import UserError
from mmdistill.core.rng import key_generator
from mmdistill.det3d.box_batch import BoxBatch, PointBatch
from mmdistill.det3d.boxes import bev_collides, bev_iou, points_in_boxes
from mmdistill.det3d.object_bank import ObjectBank, first_come

LOTS = dict(Pedestrian=10, Cyclist=10, Car=15)


def bank_of(frames, groups=None, **options):
    """A bank of frames ``{frame: rows}``."""
    bank = ObjectBank(groups or LOTS, CLASSES, **options)
    for frame, rows in frames.items():
        boxes, labels = boxes_of(rows)
        bank.add_frame(frame, cloud(boxes, labels, seed=frame), boxes, labels)
    return bank


def empty_scene(batch=1):
    """Scenes of ground without a box."""
    nothing = boxes_of([])
    points = PointBatch.from_list([cloud(*nothing, seed=row) for row in range(batch)])
    return points, BoxBatch.from_lists([nothing[0]] * batch, [nothing[1]] * batch)


def generators(count, seed=0):
    """One generator per scene."""
    return [key_generator(seed, row) for row in range(count)]


def test_an_object_comes_back_as_it_was():
    """Pasting into an empty scene gives the very box and the very points, intensities too."""
    boxes, labels = boxes_of([(10, 3, 2, 0.4), (15, -6, 0)])
    points = cloud(boxes, labels, seed=4)
    bank = ObjectBank(LOTS, CLASSES, min_points=1)
    assert bank.add_frame(7, points, boxes, labels) == 2
    scene, pasted = bank.paste(*empty_scene(), generators(1))
    found, found_labels, weights = pasted.lists()[0]
    order = found[:, 0].argsort()
    torch.testing.assert_close(found[order], boxes)
    assert torch.equal(found_labels[order], labels) and weights.tolist() == [1, 1]
    for index in range(2):
        before = points[points_in_boxes(points[:, :3], boxes[index : index + 1])[:, 0]]
        # the very points, not those the box test would find again at its faces
        gaps = torch.cdist(before, scene.points).amin(1)
        assert len(before) >= 20 and float(gaps.max()) < 1e-5


def test_objects_with_few_points_stay_out():
    boxes, labels = boxes_of([(10, 3, 2), (15, -6, 0), (5, 0, 1)])
    points = torch.cat(
        [
            cloud(boxes[i : i + 1], labels[i : i + 1], per_box=n, ground=0)
            for i, n in enumerate([9, 4, 2])
        ]
    )
    inside = points_in_boxes(points[:, :3], boxes).sum(0)
    bank = ObjectBank(
        LOTS, CLASSES, min_points=dict(Pedestrian=int(inside[1]) + 1, Car=5, Cyclist=1)
    )
    assert bank.add_frame(0, points, boxes, labels) == 2
    assert sorted(bank.labels.tolist()) == [1, 2]
    assert bank.counts.tolist() == inside[[0, 2]].tolist()


def test_classes_without_a_group_are_not_stored():
    bank = bank_of({0: [(10, 3, 2), (15, -6, 0)]}, groups=dict(Car=2))
    assert bank.labels.tolist() == [2]


def test_unknown_classes_are_an_error():
    with pytest.raises(UserError, match='Tram'):
        ObjectBank(dict(Tram=3), CLASSES)


def test_labels_outside_the_classes_are_not_stored():
    """-1 marks classes that are not trained; it must not count as the last class."""
    boxes, labels = boxes_of([(10, 3, 2), (15, -6, 0)])
    labels[0] = -1
    bank = ObjectBank(LOTS, CLASSES)
    assert bank.add_frame(0, cloud(boxes, labels.clamp(min=0)), boxes, labels) == 1
    assert bank.labels.tolist() == [0]


@pytest.mark.parametrize('groups', [dict(Car=3), dict(Car=3, Cyclist=5, Pedestrian=2)])
def test_an_empty_class_or_bank_pastes_nothing_of_it(groups):
    """hssda fact 32: no exception, and the other classes are pasted all the same."""
    scene, boxes = empty_scene(2)
    nothing = ObjectBank(groups, CLASSES)
    same, none = nothing.paste(scene, boxes, generators(2))
    assert torch.equal(same.points, scene.points) and none.valid.sum() == 0
    cars = bank_of({0: [(10, 3, 2), (15, -6, 2)]}, groups=groups)
    _, pasted = cars.paste(scene, boxes, generators(2))
    assert [len(labels) for _, labels, _ in pasted.lists()] == [2, 2]
    assert set(pasted.labels[pasted.valid].tolist()) == {2}


def test_nothing_is_pasted_onto_anything():
    """Many crowded objects: pasted boxes overlap neither the scene's nor each other."""
    generator = torch.Generator().manual_seed(0)
    frames = {}
    for frame in range(6):
        xy = torch.rand(8, 2, generator=generator) * torch.tensor([25.0, 24]) - torch.tensor(
            [0, 12]
        )
        frames[frame] = [(float(x), float(y), i % 3, i * 0.7) for i, (x, y) in enumerate(xy)]
    bank = bank_of(frames)
    own, labels = boxes_of([(8, 0, 2), (20, 5, 1)])
    scene = PointBatch.from_list([cloud(own, labels), cloud(own[:0], labels[:0])])
    boxes = BoxBatch.from_lists([own, own[:0]], [labels, labels[:0]])
    merged_points, merged = bank.paste(scene, boxes, generators(2))
    for row, (found, _, _) in enumerate(merged.lists()):
        pairs = bev_iou(found, found)
        assert float((pairs - torch.eye(len(found))).max()) < 1e-5
        assert len(found) > 8
        # each box holds exactly the points of its object: the scene's were taken away
        inside = points_in_boxes(merged_points.lists()[row][:, :3], found).sum(0)
        assert int(inside.min()) >= 5
    torch.testing.assert_close(merged.lists()[0][0][:2], own)
    collided = bev_collides(bank.boxes, own).any(1)
    assert collided.any()


def test_boxes_that_were_dropped_block_nothing():
    """Teacher boxes that became no label keep their numbers in the padding."""
    own, labels = boxes_of([(10, 3, 2)])
    dropped = BoxBatch.from_lists([own], [labels]).keep(torch.tensor([[False]]))
    points = PointBatch.from_list([cloud(own, labels)])
    _, pasted = bank_of({0: [(10.5, 3, 2)]}).paste(points, dropped, generators(1))
    assert int(pasted.valid.sum()) == 1


def test_scene_points_inside_a_pasted_box_go():
    boxes, labels = boxes_of([(10, 3, 2)])
    bank = ObjectBank(LOTS, CLASSES)
    bank.add_frame(0, cloud(boxes, labels, ground=0), boxes, labels)
    foreign = torch.tensor([[10.0, 3, -1.0, 0.123], [10, 9, -1, 0.123]])
    scene = PointBatch.from_list([foreign])
    empty = BoxBatch.from_lists([boxes[:0]], [labels[:0]])
    merged, _ = bank.paste(scene, empty, generators(1))
    left = merged.points[(merged.points[:, 3] - 0.123).abs() < 1e-6]
    assert left[:, 1].tolist() == [9]


def test_number_pasted_follows_the_groups():
    rows = [(4.0 + 5 * (i % 5), -11 + 5.0 * (i // 5), 2, 0.0) for i in range(20)]
    bank = bank_of({0: rows}, groups=dict(Car=6))
    scene, boxes = empty_scene(3)
    _, pasted = bank.paste(scene, boxes, generators(3))
    assert pasted.valid.sum(1).tolist() == [6, 6, 6]
    own, labels = boxes_of([(40, 0, 2), (40, 5, 2), (40, 10, 0)])
    present = BoxBatch.from_lists([own], [labels])
    for limit, expected in ((False, 6), (True, 4)):
        bank.limit_whole_scene = limit
        _, pasted = bank.paste(PointBatch.from_list([cloud(own, labels)]), present, generators(1))
        assert int((pasted.labels == 2).sum()) - 2 == expected


def test_draws_are_a_function_of_the_generator_without_repetition():
    rows = [(4.0 + 5 * (i % 5), -11 + 5.0 * (i // 5), 2, 0.0) for i in range(20)]
    bank = bank_of({0: rows}, groups=dict(Car=8))
    first = bank.draw(generators(2))
    assert torch.equal(first, bank.draw(generators(2)))
    assert not torch.equal(first, bank.draw(generators(2, seed=1)))
    assert all(len(set(row.tolist())) == 8 for row in first)
    alone = bank.draw(generators(2)[1:])
    assert torch.equal(alone[0], first[1])
    times = torch.zeros(20)
    for seed in range(300):
        times[bank.draw(generators(1, seed))[0]] += 1
    assert float(times.min()) > 80 and float(times.max()) < 160


def test_objects_stand_on_the_ground_plane():
    """z = 0.1 x - 2: the bottom of every pasted box, and its points with it."""
    bank = bank_of({0: [(10, 3, 2), (15, -6, 0)]}, min_points=1)
    planes = torch.tensor([[0.1, 0, -1, -2]], dtype=torch.float64)
    scene, pasted = bank.paste(*empty_scene(), generators(1), planes)
    boxes = pasted.lists()[0][0]
    torch.testing.assert_close(boxes[:, 2], 0.1 * boxes[:, 0] - 2)
    shrunk = boxes.clone()
    shrunk[:, 2] -= 1e-3
    shrunk[:, 3:6] += 2e-3
    assert int(points_in_boxes(scene.points[:, :3], shrunk).sum(0).min()) >= 20


def test_mined_objects_come_and_go_and_labelled_ones_stay():
    bank = bank_of({0: [(10, 3, 2)], 1: [(5, 0, 0)]})
    labelled = {key: getattr(bank, key).clone() for key in ('boxes', 'labels', 'frames', 'counts')}
    points = bank.points.clone()
    boxes, labels = boxes_of([(15, -6, 2), (18, 8, 1)])
    bank.add_frame(9, cloud(boxes, labels), boxes, labels, mined=True)
    assert bank.mined.tolist() == [False, False, True, True] and len(bank) == 4
    assert int(bank.counts.sum()) == len(bank.points)
    bank.drop_mined()
    assert all(torch.equal(getattr(bank, key), value) for key, value in labelled.items())
    assert torch.equal(bank.points, points) and not bank.mined.any()
    bank.clear()
    bank.drop_mined()
    assert len(bank) == 0


def test_pasting_changes_neither_bank_nor_scene():
    bank = bank_of({0: [(10, 3, 2), (15, -6, 0)]})
    points, boxes = bank.points.clone(), bank.boxes.clone()
    scene, present = empty_scene()
    before = scene.points.clone()
    merged, pasted = bank.paste(scene, present, generators(1), torch.tensor([[0.1, 0, -1, -2]]))
    merged.points[:] = math.nan
    pasted.boxes[:] = math.nan
    assert torch.equal(bank.points, points) and torch.equal(bank.boxes, boxes)
    assert torch.equal(scene.points, before)


def test_first_come_first_served():
    free = torch.tensor([[True, True, True, False, True]])
    conflicts = torch.zeros(1, 5, 5, dtype=torch.bool)
    for a, b in ((0, 1), (1, 2), (3, 4)):
        conflicts[0, a, b] = conflicts[0, b, a] = True
    # 1 conflicts with 0; 2 only with 1, which is out; 4 only with 3, which was never free
    assert first_come(free, conflicts).tolist() == [[True, False, True, False, True]]


def test_row_helper_places_boxes_on_the_ground():
    assert box_row(1, 2, 0)[2] == pytest.approx(-1.7)
