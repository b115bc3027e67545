"""Store of mined boxes: idempotent, ordered by frame, and whole after every kind of restart."""

import json

import numpy as np
import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint, save_checkpoint
from torch import nn

from mmdistill.det3d.pseudo_store import FIELDS, PseudoLabelStore


def found(*frames, seed=0):
    """One random box for every given frame id."""
    generator = torch.Generator().manual_seed(seed)
    count = len(frames)
    return dict(
        frames=torch.tensor(frames, dtype=torch.long),
        boxes=torch.rand(count, 7, generator=generator) * 10,
        labels=torch.randint(3, (count,), generator=generator),
        scores=torch.rand(count, generator=generator),
    )


def contents_equal(first, second):
    """All buffers of two stores are equal, lookup included."""
    a, b = first.contents(), second.contents()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert first.frame_ids() == second.frame_ids()


def test_boxes_are_found_by_frame():
    store, new = PseudoLabelStore(), found(7, 3, 7, 12)
    store.update(new, round_index=0)
    assert store.frame_ids() == [3, 7, 12] and len(store) == 4
    assert store.frames.tolist() == [3, 7, 7, 12]
    for frame in (3, 7, 12):
        rows = new['frames'] == frame
        boxes, labels, scores = store.frame(frame)
        assert torch.equal(boxes, new['boxes'][rows])
        assert torch.equal(labels, new['labels'][rows])
        assert torch.equal(scores, new['scores'][rows])
    assert [len(part) for part in store.frame(99)] == [0, 0, 0]


def test_a_box_is_stored_once():
    store, new = PseudoLabelStore(), found(7, 3, 7)
    store.update(new, 0)
    again = {name: torch.cat([value, value]) for name, value in new.items()}
    again['scores'] = torch.rand(6)
    store.update(again, 1)
    assert len(store) == 3
    # the first finding is kept: score and round stay
    assert store.rounds.tolist() == [0, 0, 0]
    assert set(store.scores.tolist()) == set(new['scores'].tolist())
    # the same box in another frame is another box
    moved = dict(new, frames=new['frames'] + 100)
    store.update(moved, 2)
    assert len(store) == 6


def test_empty_updates_change_the_version_only():
    store = PseudoLabelStore()
    store.update(found(), 0)
    assert len(store) == 0 and int(store.version) == 1
    store.update(found(4, 2), 1)
    before = store.contents()
    store.update(found(), 2)
    after = store.contents()
    assert int(store.version) == 3
    assert all(torch.equal(before[name], after[name]) for name in FIELDS)


def test_eviction_forgets_exactly_the_marked_boxes():
    store = PseudoLabelStore()
    store.update(found(1, 2, 3, 4), 0)
    kept = store.boxes[[0, 3]].clone()
    store.update(found(9, seed=1), 1, evict=torch.tensor([False, True, True, False]))
    assert store.frame_ids() == [1, 4, 9] and store.rounds.tolist() == [0, 0, 1]
    assert torch.equal(store.boxes[:2], kept)


def test_order_of_findings_within_a_frame_and_of_frames_does_not_matter():
    new = found(5, 1, 3, 2, 4)
    order = torch.tensor([4, 2, 0, 3, 1])
    first, second = PseudoLabelStore(), PseudoLabelStore()
    first.update(new, 0)
    second.update({name: value[order] for name, value in new.items()}, 0)
    contents_equal(first, second)


@pytest.mark.parametrize('other', [(), (1,), (3, 3, 8, 1)])
def test_state_dict_takes_the_length_of_the_checkpoint(other):
    store, target = PseudoLabelStore(), PseudoLabelStore()
    store.update(found(4, 2, 4), 0)
    target.update(found(*other, seed=1), 0)
    target.load_state_dict(store.state_dict())
    contents_equal(store, target)
    # the loaded store does not share memory with the checkpoint
    target.boxes += 1
    assert not torch.equal(target.boxes, store.boxes)


class Holder(nn.Module):
    """A model with a store inside."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.store = PseudoLabelStore()


def test_checkpoint_of_mmengine_restores_a_longer_and_a_shorter_store(tmp_path):
    path = str(tmp_path / 'model.pth')
    model = Holder()
    model.store.update(found(4, 2, 4), 0)
    model.store.update(found(11, seed=2), 1)
    save_checkpoint(dict(state_dict=model.state_dict()), path)
    for other in ((), tuple(range(20))):
        fresh = Holder()
        fresh.store.update(found(*other, seed=3), 0)
        load_checkpoint(fresh, path, map_location='cpu', strict=True)
        contents_equal(fresh.store, model.store)
        assert fresh.store.rounds.tolist() == [0, 0, 0, 1]


def test_a_checkpoint_without_a_store_leaves_it_alone():
    store = PseudoLabelStore()
    store.update(found(4, 2), 0)
    before = {name: value.clone() for name, value in store.contents().items()}
    missing = store.load_state_dict({}, strict=False).missing_keys
    assert set(missing) == {*FIELDS, 'version'}
    assert all(torch.equal(before[name], value) for name, value in store.contents().items())
    assert store.frame_ids() == [2, 4]


def test_replace_sends_a_store_to_another_rank():
    first, second = PseudoLabelStore(), PseudoLabelStore()
    first.update(found(4, 2), 0)
    second.update(found(1, 1, 1, seed=5), 0)
    second.replace(first.contents())
    contents_equal(first, second)


def test_side_car_holds_everything_and_leaves_no_temporary_file(tmp_path):
    store, names = PseudoLabelStore(), ['Pedestrian', 'Cyclist', 'Car']
    new = found(4, 2, 4)
    new['labels'] = torch.tensor([2, 0, 2])
    store.update(new, 0)
    path = store.save(tmp_path, names)
    assert path == tmp_path / 'pseudo_labels' / 'v001.npz'
    arrays = np.load(path)
    assert all(np.array_equal(arrays[k], v.numpy()) for k, v in store.contents().items())
    summary = json.loads(path.with_suffix('.json').read_text())
    expected = dict(version=1, frames=2, boxes=dict(Pedestrian=1, Cyclist=0, Car=2))
    assert summary == expected
    store.save(tmp_path, names)
    store.update(found(8), 1)
    store.save(tmp_path, names)
    files = sorted(each.name for each in path.parent.iterdir())
    assert files == ['v001.json', 'v001.npz', 'v002.json', 'v002.npz']
