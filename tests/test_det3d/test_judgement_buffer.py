"""Mining from what the teacher said in training steps: the same records, no further pass."""

from dataclasses import replace

import pytest
import torch
from det3d_scenes import PerfectTeacher
from mining_ranks import spread_scores, training

from mmdistill.core.errors import UserError
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.judgement import Judgement, matched_pairs, rows_of
from mmdistill.det3d.judgement_buffer import JudgementBuffer


def judgement(counts, scores=2, seed=0):
    """Random boxes, as many as ``counts`` in the raw view and one more in the other."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(sizes):
        cut = [torch.rand(size, 7, generator=generator) for size in sizes]
        labels = [torch.randint(3, (size,), generator=generator) for size in sizes]
        return BoxBatch.from_lists(cut, labels)

    weak, other = boxes(counts), boxes([count + 1 for count in counts])

    def values(like, *more):
        return torch.rand(*like.labels.shape, *more, generator=generator)

    return Judgement(weak, other, values(weak, scores), values(weak), values(other), values(weak))


def same(found, row, kept, place):
    """Whether two scenes of two judgements are alike in all valid boxes."""
    a, b = (
        rows_of(*each) for each in ((found, torch.tensor([row])), (kept, torch.tensor([place])))
    )
    for name in ('weak', 'other'):
        left, right = (getattr(each, name) for each in (a, b))
        if not torch.equal(left.boxes[left.valid], right.boxes[right.valid]):
            return False
        if not torch.equal(left.labels[left.valid], right.labels[right.valid]):
            return False
    valid, kept_valid = a.weak.valid, b.weak.valid
    pairs = [(getattr(a, n)[valid], getattr(b, n)[kept_valid]) for n in ('scores', 'trusted')]
    pairs.append((a.points[valid], b.points[kept_valid]))
    pairs.append((a.trusted_other[a.other.valid], b.trusted_other[b.other.valid]))
    return all(torch.equal(*each) for each in pairs)


def test_it_gives_back_what_it_got_in_the_order_of_frames():
    buffer, found = JudgementBuffer(6, 5, 2), judgement([3, 0, 4])
    buffer.add(found, [9, 2, 5], [True, False, False])
    kept, frames, labeled = buffer.newest()
    assert frames == [2, 5, 9] and labeled == [False, False, True] and len(buffer) == 3
    assert all(same(found, row, kept, place) for row, place in ((0, 2), (1, 0), (2, 1)))


def test_the_newest_of_a_frame_counts_and_the_oldest_are_forgotten():
    buffer, parts = JudgementBuffer(4, 5, 2), [judgement([2, 3], seed=seed) for seed in range(3)]
    buffer.add(parts[0], [1, 2], [True, False])
    buffer.add(parts[1], [2, 3], [False, False])
    kept, frames, _ = buffer.newest()
    assert frames == [1, 2, 3]
    assert same(parts[0], 0, kept, 0) and same(parts[1], 0, kept, 1)
    buffer.add(parts[2], [4, 5], [False, True])
    kept, frames, labeled = buffer.newest()
    assert frames == [2, 3, 4, 5] and labeled == [False, False, False, True]
    assert same(parts[1], 0, kept, 0) and same(parts[2], 1, kept, 3)
    buffer.clear()
    assert len(buffer) == 0 and buffer.newest()[1] == []


def test_several_judgements_of_labelled_frames_and_one_of_others():
    buffer, parts = JudgementBuffer(6, 5, 2), [judgement([2, 3], seed=seed) for seed in range(4)]
    for part in parts:
        buffer.add(part, [1, 2], [True, False])
    kept, frames, labeled = buffer.newest(views=2)
    assert frames == [1, 1, 2] and labeled == [True, True, False]
    assert same(parts[3], 0, kept, 0) and same(parts[2], 0, kept, 1) and same(parts[3], 1, kept, 2)
    # the first step is forgotten
    assert buffer.newest(views=9)[1] == [1, 1, 1, 2] and buffer.newest()[1] == [1, 2]


def test_it_lies_in_the_state_dict():
    buffer = JudgementBuffer(4, 5, 2)
    buffer.add(judgement([2, 3]), [7, 8], [True, False])
    other = JudgementBuffer(4, 5, 2)
    other.load_state_dict(buffer.state_dict())
    for one in (buffer, other):
        one.add(judgement([1], seed=3), [9], [False])
    assert other.newest()[1:] == buffer.newest()[1:] == ([7, 8, 9], [True, False, False])
    assert all(torch.equal(a, b) for a, b in zip(other.buffers(), buffer.buffers(), strict=True))


def test_the_best_boxes_are_kept_where_not_all_fit():
    buffer, found = JudgementBuffer(2, 2, 2), judgement([4])
    weights = [torch.tensor([[0.2, 0.9, 0.1, 0.5]]), torch.tensor([[0.1, 0.2, 0.9, 0.3, 0.8]])]
    views = [
        each.with_weights(w) for each, w in zip((found.weak, found.other), weights, strict=True)
    ]
    found = replace(found, weak=views[0], other=views[1])
    buffer.add(found, [1], [False])
    kept, _, _ = buffer.newest()
    for name in ('scores', 'trusted', 'points'):
        assert torch.equal(getattr(kept, name)[0], getattr(found, name)[0, [1, 3]])
    assert torch.equal(kept.weak.boxes[0], found.weak.boxes[0, [1, 3]])
    assert torch.equal(kept.weak.labels[0], found.weak.labels[0, [1, 3]])
    assert torch.equal(kept.other.boxes[0], found.other.boxes[0, [2, 4]])
    assert torch.equal(kept.other.labels[0], found.other.labels[0, [2, 4]])
    assert torch.equal(kept.trusted_other[0], found.trusted_other[0, [2, 4]])


def test_what_keeps_nothing_or_not_all_scenes_is_refused():
    with pytest.raises(UserError, match='keeps nothing'):
        JudgementBuffer(0, 2, 2)
    with pytest.raises(UserError, match='3 scenes does not fit into mining.scenes=2'):
        JudgementBuffer(2, 5, 2).add(judgement([1, 1, 1]), [1, 2, 3], [False] * 3)


@pytest.mark.parametrize('pairs', ['all', 'best'])
def test_padding_makes_no_pair(pairs):
    found = judgement([3, 1])
    far = found.with_other(found.other.with_boxes(found.other.boxes + 9), found.trusted_other)
    yes = [torch.ones_like(each.labels, dtype=torch.bool) for each in (found.weak, found.other)]
    assert len(matched_pairs(far.weak, far.other, *yes, pairs)[0]) == 0
    own = matched_pairs(found.weak, found.weak, yes[0], yes[0], pairs)
    assert len(own[0]) >= 4 and (own[1] >= 0).all()


def test_records_of_steps_are_those_of_a_pass(hssda, semi_data, marked_kitti):
    """With the same views of the same scenes, whatever the padding."""
    from mmengine.dataset import pseudo_collate

    model = hssda(mining=dict(source='training_buffer', scenes=20, boxes=40))
    model.teacher.predict = PerfectTeacher(spread_scores)
    data = semi_data(marked_kitti)
    direct = []
    for rows in ((0, 1), (2, 3, 4), (5, 6)):
        batch = model.data_preprocessor(pseudo_collate([data[row] for row in rows]), True)
        scenes = model.read_batch(batch['inputs'], batch['data_samples'])
        found = model.judged(scenes, purpose=1)
        model.buffer.add(found, scenes.frames, scenes.labeled)
        one = [torch.tensor([row]) for row in range(len(rows))]
        pools = [model.pools(rows_of(found, row))[0] for row in one]
        for row, frame in enumerate(scenes.frames):
            direct.append((frame, scenes.labeled[row], pools[row][0], found.scores[row]))
    records = model.buffered_records()
    assert [record['frame'] for record in records] == sorted(each[0] for each in direct)
    for record, (_, labeled, pool, scores) in zip(
        records, sorted(direct, key=lambda d: d[0]), strict=True
    ):
        assert record['labeled'] == labeled
        torch.testing.assert_close(record['pair_iou'].sort()[0], pool.sort()[0])
        assert torch.equal(record['scores'], scores[: len(record['scores'])])


def test_views_of_several_steps_fill_the_pool_of_a_labelled_frame(hssda, semi_data, marked_kitti):
    """And nothing else of its record, nor that of a frame without labels."""
    from mmengine.dataset import pseudo_collate

    data, records = semi_data(marked_kitti), {}
    for views in (1, 3):
        model = hssda(mining=dict(source='training_buffer', scenes=20, boxes=40), pool_views=views)
        model.teacher.predict = PerfectTeacher(spread_scores)
        batch = model.data_preprocessor(pseudo_collate([data[row] for row in (0, 4, 8, 11)]), True)
        scenes = model.read_batch(batch['inputs'], batch['data_samples'])
        for step in range(4):
            model.cur_iter = step
            model.buffer.add(model.judged(scenes, purpose=1), scenes.frames, scenes.labeled)
        records[views] = model.buffered_records()
    assert any(scenes.labeled) and not all(scenes.labeled)
    for one, three in zip(records[1], records[3], strict=True):
        times = 3 if one['labeled'] else 1
        assert len(three['pair_iou']) == times * len(one['pair_iou'])
        assert len(three['pair_label']) == len(three['pair_iou'])
        for name in ('frame', 'labeled'):
            assert one[name] == three[name]
        for name in ('boxes', 'labels', 'scores', 'trusted', 'points'):
            assert torch.equal(one[name], three[name])
    assert sum(len(each['pair_iou']) for each in records[1] if each['labeled']) > 0


def test_a_round_without_a_pass_moves_thresholds_and_store(marked_kitti, tmp_path):
    """The second round reads no frame, and the buffer starts anew."""
    from det3d_scenes import hssda_cfg

    options = dict(object_bank=dict(sample_groups=dict(Car=3), min_points=3))
    calls, rounds = [], []
    runner = training(
        marked_kitti,
        tmp_path,
        6,
        model=hssda_cfg(mining=dict(source='training_buffer', scenes=64, boxes=40), **options),
    )
    model = runner.model
    passes, refresh = model.mine, model.refresh

    def counted(scenes):
        calls.append(len(scenes.frames))
        return passes(scenes)

    def seen(records):
        rounds.append({record['frame'] for record in records})
        refresh(records)

    model.mine, model.refresh = counted, seen
    before = model.filter.high.clone()
    runner.train()
    assert sum(calls) == len(runner.train_dataloader.dataset)
    assert len(rounds) == 2 and len(rounds[0]) == sum(calls)
    # three steps of four scenes
    assert 0 < len(rounds[1]) <= 12
    assert len(model.buffer) == 12 and not torch.equal(model.filter.high, before)


def test_what_no_step_has_is_refused(hssda):
    with pytest.raises(UserError, match='mining.source must be one of'):
        hssda(mining=dict(source='buffer'))
    with pytest.raises(UserError, match='no training step asks the teacher'):
        hssda(mining=dict(source='training_buffer'), ambiguous=None, low=None)
    assert hssda().buffer is None
