"""HSSDA's decisions: score pools, dual thresholds, three levels, mining rounds."""

import copy
import itertools

import pytest
import torch
from det3d_scenes import CLASSES, PerfectTeacher, batch_of, boxes_of, cloud, sample
from mmengine.runner.checkpoint import load_checkpoint, save_checkpoint

from mmdistill.core.errors import UserError
from mmdistill.core.filters.two_means import two_means
from mmdistill.det3d.box_batch import BoxBatch, PointBatch
from mmdistill.det3d.boxes import bev_iou, iou_3d, points_in_boxes
from mmdistill.det3d.hssda import overlap_sum, soft_weights
from mmdistill.det3d.judgement import matched_pairs

# within 12 m of the sensor and 40 degrees of its axis: in range in every augmented view
NEAR = [(6, 1, 2, 0.2), (9, -3, 2, 1.1), (7.5, 4, 1, -0.4), (4, -1.5, 0, 0.3), (10, 3.5, 0, 2.0)]


@pytest.fixture
def model(hssda):
    """HSSDA with a perfect teacher; ``score`` scripts its confidence."""

    def build(score=0.9, shift=0.0, high=None, low=None, **changes):
        made = hssda(**changes)
        made.teacher.predict = PerfectTeacher(score, shift)
        if high is not None:
            made.filter.high.fill_(high)
            made.filter.low.fill_(low)
        return made

    return build


def view_pairs(weak, other, kept, match_iou, pairs):
    """Pool of the overlaps of both views, given the trusted boxes."""
    matched = [overlap_sum(each, kept) >= match_iou for each in (weak, other)]
    return matched_pairs(weak, other, *matched, pairs)


def read(model, *scenes):
    """The scene batch of ``(frame, rows, labeled)`` scenes."""
    return model.read_batch(*batch_of(*scenes))


def record(frame, rows, scores, labeled=False, trusted=0.0, points=50, pair_iou=(), pair_label=()):
    """A mining record; ``scores`` is one (cls, view_iou) pair per row, the rest one or many."""
    boxes, labels = boxes_of(rows)
    count = len(labels)

    def column(value):
        value = torch.as_tensor(value, dtype=torch.float32)
        return value.expand(count) if value.dim() == 0 else value

    return dict(
        frame=frame,
        labeled=labeled,
        boxes=boxes,
        labels=labels,
        scores=torch.tensor(scores, dtype=torch.float32).reshape(count, 2),
        trusted=column(trusted),
        points=column(points),
        pair_iou=torch.tensor(pair_iou, dtype=torch.float32),
        pair_label=torch.tensor(pair_label, dtype=torch.long),
    )


# ------------------------------------------------------------------ two views


def test_a_perfect_teacher_agrees_with_itself(model):
    """hssda fact 12: over many augmented views the overlap is 1 for every box."""
    made = model()
    scenes = read(made, *((frame, NEAR, False) for frame in range(4)))
    seen = set()
    for step in range(6):
        made.cur_iter = step
        weak, other, scores = made.judge(scenes.points, scenes.frames, purpose=1)
        assert weak.valid.sum() == other.valid.sum() == 4 * len(NEAR)
        assert float(scores[..., 1][weak.valid].min()) >= 0.999
        assert float(scores[..., 0][weak.valid].min()) == pytest.approx(0.9)
        torch.testing.assert_close(weak.lists()[0][0], boxes_of(NEAR)[0], atol=1e-4, rtol=0)
        seen.add(float(other.boxes[0, 0, 0]))
    assert len(seen) > 1


def test_a_teacher_that_errs_by_half_a_metre_does_not(model):
    made = model(shift=0.5)
    scenes = read(made, (0, NEAR, False), (1, NEAR, False))
    for step in range(4):
        made.cur_iter = step
        weak, _, scores = made.judge(scenes.points, scenes.frames, purpose=1)
        assert float(scores[..., 1][weak.valid].max()) < 0.8


def test_the_augmented_view_is_flipped_turned_and_scaled(model):
    """Official view: always flipped, within 45 degrees, scale 0.91 to 1.12."""
    made, drawn = model(), []
    original = made.teacher_view.draw
    made.teacher_view = type(
        'Spy', (), {'draw': staticmethod(lambda u: drawn.append(original(u)) or drawn[-1])}
    )
    scenes = read(made, *((frame, NEAR[:1], False) for frame in range(8)))
    for step in range(10):
        made.cur_iter = step
        made.judge(scenes.points, scenes.frames, purpose=1)
    flip, angle, scale = (
        torch.cat([getattr(d, n) for d in drawn]) for n in ('flip', 'angle', 'scale')
    )
    assert flip.all()
    assert -0.785 <= float(angle.min()) < -0.6 and 0.6 < float(angle.max()) <= 0.785
    assert 0.91 <= float(scale.min()) < 0.94 and 1.09 < float(scale.max()) <= 1.12
    assert len(angle.unique()) == 80


def test_judgement_of_a_frame_does_not_depend_on_its_company(model):
    made = model(score=lambda number, label: 0.5 + number / 20)
    scenes = {frame: (frame, NEAR[: frame + 1], False) for frame in range(4)}
    together = read(made, *scenes.values())
    _, other, scores = made.judge(together.points, together.frames, purpose=2)
    for frame, scene in scenes.items():
        alone = read(made, scene)
        _, alone_other, alone_scores = made.judge(alone.points, alone.frames, purpose=2)
        count = frame + 1
        assert torch.equal(alone_scores[0, :count], scores[frame, :count])
        assert torch.equal(alone_other.boxes[0, :count], other.boxes[frame, :count])


@pytest.mark.parametrize('views', [1, 2, 5])
def test_more_views_of_labelled_frames_fill_the_pool(model, views):
    """Ours: every view adds what one view gives; unlabelled frames and scores do not change."""
    scenes = [(0, NEAR, True), (1, NEAR[:3], False), (2, NEAR[:2], True)]
    records = {}
    for count in (1, views):
        made = model(shift=0.4, match_iou=0.2, pool_views=count)
        made.store.update(
            dict(
                frames=torch.tensor([1, 1, 1]),
                boxes=boxes_of(NEAR[:3])[0],
                labels=boxes_of(NEAR[:3])[1],
                scores=torch.ones(3),
            ),
            0,
        )
        records[count] = made.mine(read(made, *scenes))
    for one, many in zip(records[1], records[views], strict=True):
        first = len(one['pair_iou'])
        assert first > 0 and torch.equal(many['scores'], one['scores'])
        assert torch.equal(many['pair_iou'][:first], one['pair_iou'])
        found, labels = [], []
        for purpose in range(2, 2 + (views if many['labeled'] else 1)):
            alone = read(made, scenes[one['frame']])
            weak, other, _ = made.judge(alone.points, alone.frames, purpose)
            pair = view_pairs(weak, other, made.kept_boxes(alone), 0.2, 'all')
            found.append(pair[0])
            labels.append(pair[1])
        torch.testing.assert_close(many['pair_iou'], torch.cat(found))
        assert torch.equal(many['pair_label'], torch.cat(labels))


@pytest.mark.parametrize('value', [0, 1.5])
def test_views_of_the_pool_are_a_number_from_one_on(hssda, value):
    with pytest.raises(UserError, match='pool_views must be a number from 1 on'):
        hssda(pool_views=value)


# ------------------------------------------------------------------ pools


def test_overlap_sum_adds_over_kept_boxes_of_any_class():
    """Two kept boxes of other classes, each overlapping by less than 0.5, add up."""
    car, car_label = boxes_of([(10, 0, 2, 0.0)])
    kept, labels = boxes_of([(8.7, 0, 2, 0.0), (12.6, 0, 2, 0.0)])
    labels[:] = 0
    weak = BoxBatch.from_lists([car], [car_label])
    both = BoxBatch.from_lists([kept], [labels])
    singles = [
        float(overlap_sum(weak, both.keep(torch.tensor([[i == 0, i == 1]])))) for i in (0, 1)
    ]
    assert float(overlap_sum(weak, both)) == pytest.approx(sum(singles))
    assert max(singles) == pytest.approx(0.5) and min(singles) == pytest.approx(1.3 / 6.5)
    assert overlap_sum(weak, BoxBatch.empty(1, car)).tolist() == [[0.0]]
    lifted = both.with_boxes(both.boxes + torch.tensor([0, 0, 5.0, 0, 0, 0, 0]))
    assert float(overlap_sum(weak, lifted)) > 0 and float(overlap_sum(weak, lifted, '3d')) == 0


def reference_pairs(weak, other, kept, match, pairs):
    """The definition of S_iou by loops over one scene: (overlap, class) in any order."""
    trust = [bev_iou(each[0], kept[0]).sum(1).tolist() for each in (weak, other)]
    overlaps, labels = bev_iou(weak[0], other[0]).tolist(), [weak[1].tolist(), other[1].tolist()]
    found = []
    for i, label in enumerate(labels[0]):
        own = [
            (overlaps[i][j], label)
            for j, second in enumerate(labels[1])
            if label == second and overlaps[i][j] > 0 and min(trust[0][i], trust[1][j]) >= match
        ]
        found += own if pairs == 'all' else sorted(own)[-1:]
    return sorted(found)


@pytest.mark.parametrize('pairs', ['all', 'best'])
def test_pairs_of_the_view_pool_equal_the_loops(pairs):
    """B9: 'all' takes every overlapping pair of one class, 'best' one a box."""
    generator = torch.Generator().manual_seed(0)
    place = torch.rand(14, 3, generator=generator) * torch.tensor([14.0, 10, 1])
    crowd, labels = boxes_of(
        [(*row[:2], i % 2 + 1, row[2]) for i, row in enumerate(place.tolist())]
    )

    def jittered(scale):
        boxes = crowd.clone()
        boxes[:, :2] += scale * torch.randn(14, 2, generator=generator)
        return boxes

    weak = BoxBatch.from_lists([jittered(0.3), jittered(0.5)], [labels, labels])
    other = BoxBatch.from_lists([jittered(0.4), jittered(0.1)], [labels, labels])
    kept = BoxBatch.from_lists([crowd[:9], crowd[3:]], [labels[:9], labels[3:]])
    batches = [weak, other, kept]
    overlaps, labels, scenes = view_pairs(*batches, 0.5, pairs)
    assert scenes.tolist() == sorted(scenes.tolist())
    for row in range(2):
        expected = reference_pairs(*(batch.lists()[row] for batch in batches), 0.5, pairs)
        own = scenes == row
        found = sorted(zip(overlaps[own].tolist(), labels[own].tolist(), strict=True))
        assert len(found) > 3
        assert [label for _, label in found] == [label for _, label in sorted(expected)]
        assert [o for o, _ in found] == pytest.approx([o for o, _ in sorted(expected)], abs=1e-5)


def test_no_boxes_no_pairs():
    boxes, labels = boxes_of(NEAR)
    some, none = BoxBatch.from_lists([boxes], [labels]), BoxBatch.empty(1, boxes)
    for parts in itertools.product([some, none], repeat=3):
        if any(part is none for part in parts):
            overlaps, classes, scenes = view_pairs(*parts, 0.5, 'all')
            assert len(overlaps) == len(classes) == len(scenes) == 0


def test_the_view_pool_is_measured_in_the_space_of_the_score(model):
    """A second view half a box higher: one footprint, a third of the volume."""
    car, labels = boxes_of([(10, 0, 2, 0.0)])
    weak = BoxBatch.from_lists([car], [labels])
    raised = weak.with_boxes(weak.boxes + torch.tensor([0, 0, 0.78, 0, 0, 0, 0]))
    for space, expected in (('bev', 1.0), ('3d', 1 / 3)):
        made = model(scores=('cls', dict(type='mmdistill.ViewIoU', space=space)))
        scores = torch.stack([each(weak, raised, {}) for each in made.providers], -1)
        made.judge = lambda points, frames, purpose, scores=scores: (weak, raised, scores)
        (found,) = made.mine(read(made, (0, [(10, 0, 2, 0.0)], True)))
        assert found['pair_iou'].tolist() == [pytest.approx(expected, abs=1e-5)]
        assert torch.equal(found['pair_iou'], found['scores'][:, 1])


# ------------------------------------------------------------------ thresholds


def script(number, label):
    """Scores of a perfect teacher in two clusters."""
    return 0.9 + 0.01 * (number % 3) if number % 2 else 0.4 + 0.02 * (number % 5)


WIDE = [
    (5, -1.5, 2, 0.0),
    (6, 2.5, 2, 0.0),
    (10, -5, 2, 0.0),
    (11, 0.5, 2, 0.0),
    (9.5, 5.5, 2, 0.0),
]
STRAIGHT = dict(rotation=(-0.1, 0.1))  # the wide scene stays in range in the augmented view


def mined(model, *scenes):
    """Records of scenes, one teacher batch."""
    return model.mine(read(model, *scenes))


def test_thresholds_are_the_two_means_of_trusted_scores(model):
    """hssda fact 13: exact, from labelled frames alone when nothing is stored yet."""
    made = model(script, thresholds=dict(decimals=None), teacher_view=STRAIGHT)
    records = mined(made, (0, NEAR, True), (1, WIDE, True), (2, NEAR, False))
    made.refresh(records)
    scores = {0: [], 1: [], 2: []}
    for rows in (NEAR, WIDE):
        for number, row in enumerate(rows, start=1):
            scores[row[2]].append(script(number, row[2]))
    low, high = two_means(torch.tensor(scores[2]))
    assert float(made.filter.high[0, 2]) == pytest.approx(high, abs=1e-6)
    assert float(made.filter.low[0, 2]) == pytest.approx(low, abs=1e-6)
    assert len(scores[2]) == 7 and low < 0.5 < high
    # perfect agreement of the views: both thresholds of the view overlap are 1
    assert float(made.filter.low[1, 2]) > 0.98
    assert bool((made.filter.high >= made.filter.low).all())


def test_pools_by_hand(model):
    """Scores of predictions trusted by 0.5 or more; for the view overlap the given pairs."""
    from mmdistill.det3d.round_records import score_pools

    made = model(thresholds=dict(decimals=None))
    rows = [(4.0 + 5 * i, 0, 2) for i in range(6)]
    scores = [[0.9, 0.31], [0.8, 0.32], [0.3, 0.33], [0.2, 0.34], [0.01, 0.35], [0.02, 0.36]]
    trusted = [1.0, 0.5, 0.9, 0.5, 0.49, 0.0]
    pairs = dict(pair_iou=[0.1, 0.9, 0.7, 0.3, 0.5], pair_label=[2, 2, 2, 2, 1])
    records = [record(0, rows, scores, labeled=True, trusted=trusted, **pairs)]
    pools = score_pools(records, made.score_names, len(made.class_names), made.match_iou)
    assert sorted(pools['cls', 2].tolist()) == pytest.approx([0.2, 0.3, 0.8, 0.9])
    assert sorted(pools['view_iou', 2].tolist()) == pytest.approx([0.1, 0.3, 0.7, 0.9])
    assert pools['view_iou', 1].tolist() == [0.5] and len(pools['cls', 0]) == 0
    made.refresh(records)
    torch.testing.assert_close(made.filter.high[:, 2], torch.tensor([0.85, 0.8]))
    torch.testing.assert_close(made.filter.low[:, 2], torch.tensor([0.25, 0.2]))


def test_small_pools_keep_the_defaults(model):
    """hssda fact 14: two pedestrians and one cyclist are too few."""
    made = model(script)
    made.refresh(mined(made, (0, NEAR, True)))
    for table in (made.filter.high, made.filter.low):
        torch.testing.assert_close(table[:, 0], torch.tensor([0.99, 0.93]))
        torch.testing.assert_close(table[:, 1], torch.tensor([0.99, 0.93]))
    made.refresh(mined(made, (0, NEAR, True), (1, NEAR, True)))
    assert float(made.filter.high[0, 0]) < 0.99
    assert float(made.filter.high[0, 1]) == pytest.approx(0.99)


def test_untrusted_predictions_and_bare_frames_change_nothing(model):
    """hssda fact 15."""
    scenes = [(0, NEAR, True), (1, WIDE, True)]
    expected = model(script, teacher_view=STRAIGHT)
    expected.refresh(mined(expected, *scenes))
    made = model(script, teacher_view=STRAIGHT)
    inputs, samples = batch_of(*scenes, (2, NEAR, False), (3, [], True))
    # an object that no annotation knows, scored far from all others
    extra = cloud(*boxes_of([(4.5, 5.5, 2, 0.0)]), ground=0, first=40)
    inputs['points'][1] = torch.cat([inputs['points'][1], extra])
    made.teacher.predict.score = lambda number, label: script(number, label) if number < 40 else 0.1
    records = made.mine(made.read_batch(inputs, samples))
    assert len(records[1]['labels']) == len(WIDE) + 1
    assert float(records[1]['trusted'].min()) == 0
    made.refresh(records)
    assert torch.equal(made.filter.high, expected.filter.high)
    assert torch.equal(made.filter.low, expected.filter.low)
    assert not torch.equal(made.filter.high[0], torch.full((3,), 0.99))


@pytest.mark.parametrize(
    ('decimals', 'expected'), [(2, (0.99, 0.0)), (None, (0.999, 1e-5)), (1, (0.9, 0))]
)
def test_truncation_cuts_off(model, decimals, expected):
    """hssda fact 16: 0.999 -> 0.99, 1e-5 -> 0.0; rounding is off by config."""
    made = model(thresholds=dict(decimals=decimals))
    pairs = [[0.999, 0.5], [1e-5, 0.5], [0.999, 0.5], [1e-5, 0.5]]
    rows = [(5 + 4 * i, 0, 2) for i in range(4)]
    made.refresh([record(0, rows, pairs, labeled=True, trusted=1.0)])
    assert float(made.filter.high[0, 2]) == pytest.approx(expected[0])
    assert float(made.filter.low[0, 2]) == pytest.approx(expected[1])


def test_thresholds_shift_with_the_scores(model):
    """hssda fact 17."""
    scores = torch.rand(30, generator=torch.Generator().manual_seed(0)) * 0.6
    rows = [(0.7 * i, 0, 2) for i in range(30)]
    tables = []
    for delta in (0.0, 0.25):
        made = model(thresholds=dict(decimals=None))
        pairs = [[float(s) + delta, 0.5] for s in scores]
        made.refresh([record(0, rows, pairs, labeled=True, trusted=1.0)])
        tables.append(torch.stack([made.filter.high[0, 2], made.filter.low[0, 2]]))
    torch.testing.assert_close(tables[1], tables[0] + 0.25)


def random_records(count=12, seed=0):
    """Records of labelled and unlabelled frames with every class."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for frame in range(count):
        rows = [(2.0 + 3 * i, float(torch.rand((), generator=generator)), i % 3) for i in range(8)]
        made.append(
            record(
                frame * 7 % 101,
                rows,
                torch.rand(8, 2, generator=generator).tolist(),
                labeled=frame % 3 == 0,
                trusted=(torch.rand(8, generator=generator) < 0.5).float(),
                points=torch.randint(0, 12, (8,), generator=generator).float(),
                pair_iou=torch.rand(9, generator=generator).tolist(),
                pair_label=[0, 1, 2] * 3,
            )
        )
    return made


def fresh_state(made):
    """Thresholds and store after a refresh."""
    return dict(high=made.filter.high, low=made.filter.low, **made.store.contents())


def equal_states(first, second):
    """Every tensor is bitwise equal."""
    return all(torch.equal(first[name], second[name]) for name in first)


def test_refresh_does_not_depend_on_the_order_of_records(model):
    """Ranks answer in any order and with any share."""
    states = []
    for order in (range(12), range(11, -1, -1), [3, 8, 0, 11, 5, 2, 9, 1, 10, 4, 7, 6]):
        made, records = model(), random_records()
        made.refresh([records[i] for i in order])
        states.append(fresh_state(made))
    assert len(states[0]['frames']) > 0
    assert equal_states(states[0], states[1]) and equal_states(states[0], states[2])


def test_a_frame_recorded_twice_counts_once(model):
    """A broken frame's place is taken by its neighbour: two records of one frame."""
    once, twice = model(), model()
    records = random_records()
    once.refresh(records)
    twice.refresh(records + [copy.deepcopy(records[1]), copy.deepcopy(records[2])])
    assert equal_states(fresh_state(once), fresh_state(twice))


def test_thresholds_do_not_depend_on_the_order_of_classes(model):
    first = model()
    first.refresh(random_records())
    turned = model(class_names=['Car', 'Pedestrian', 'Cyclist'])
    records = random_records()
    for each in records:
        for name in ('labels', 'pair_label'):
            each[name] = (each[name] + 1) % 3
    turned.refresh(records)
    order = [1, 2, 0]
    assert torch.equal(turned.filter.high[:, order], first.filter.high)
    assert torch.equal(turned.filter.low[:, order], first.filter.low)
    assert torch.equal(turned.store.frames, first.store.frames)


# ------------------------------------------------------------------ high level: mining


def test_mining_takes_confident_new_boxes_with_points(model):
    """hssda 1.5: above all high thresholds, nothing stored there, more than 5 points."""
    made = model(thresholds=dict(init=dict(cls=0.8, view_iou=0.7)))
    rows = [(4.0 + 5 * i, 0, 2) for i in range(5)]
    scores = [[0.9, 0.9], [0.8, 0.9], [0.9, 0.7], [0.9, 0.9], [0.9, 0.9]]
    trusted, points = [0, 0, 0, 0.01, 0], [6, 50, 50, 50, 5]
    found = record(4, rows, scores, trusted=trusted, points=points)
    made.refresh([found, record(9, rows, scores, labeled=True)])
    boxes, labels, kept_scores = made.store.frame(4)
    assert torch.equal(boxes, found['boxes'][:1]) and labels.tolist() == [2]
    assert kept_scores.tolist() == [pytest.approx(0.9)]
    assert made.store.frame_ids() == [4]


@pytest.mark.parametrize('scores', [('cls', 'view_iou'), ('view_iou', 'cls')])
def test_the_stored_score_is_the_confidence(model, scores):
    made = model(scores=scores, thresholds=dict(init=dict(cls=0.5, view_iou=0.5)))
    pair = [0.9 if name == 'cls' else 0.7 for name in scores]
    made.refresh([record(4, [(5, 0, 2)], [pair])])
    assert made.store.scores.tolist() == [pytest.approx(0.9)]


def test_mining_without_a_view_prediction_is_impossible(model):
    """A threshold floored to 0 still asks for an overlap above 0."""
    made = model(thresholds=dict(init=dict(cls=0.0, view_iou=0.0)))
    made.refresh([record(4, [(5, 0, 2)], [[0.9, 0.0]])])
    assert len(made.store) == 0


def test_switched_off_mining_fits_thresholds_only(model):
    made = model(high=None)
    assert made.high['min_points'] == 6
    made = model()
    made.high = None
    made.refresh(random_records())
    assert len(made.store) == 0 and int(made.store.version) == 0
    assert not torch.equal(made.filter.high[0], torch.full((3,), 0.99))


def test_records_hold_what_mining_needs(model):
    """Counts of points, overlaps with kept boxes, pairs: against a frame read by hand."""
    made = model(script)
    scenes = read(made, (0, NEAR, True), (5, WIDE, False))
    labelled, unlabelled = made.mine(scenes)
    assert (labelled['frame'], labelled['labeled']) == (0, True)
    assert (unlabelled['frame'], unlabelled['labeled']) == (5, False)
    for each, row in ((labelled, 0), (unlabelled, 1)):
        inside = points_in_boxes(scenes.points.lists()[row][:, :3], each['boxes'])
        assert torch.equal(each['points'], inside.sum(0).float())
        assert int(each['points'].min()) >= 20
    torch.testing.assert_close(labelled['trusted'], torch.ones(len(NEAR)), atol=1e-3, rtol=0)
    assert float(unlabelled['trusted'].max()) == 0 and len(unlabelled['pair_iou']) == 0
    assert sorted(labelled['pair_label'].tolist()) == sorted(row[2] for row in NEAR)
    assert not any(torch.is_tensor(v) and v.requires_grad for v in labelled.values())


def test_second_round_stores_a_box_once_and_learns_from_stored_ones(model):
    """hssda fact 22: the same teacher finds the same boxes; a stored box is trusted later."""
    init = dict(cls=0.9, view_iou=0.9)
    made = model(0.95, thresholds=dict(init=init), teacher_view=STRAIGHT)
    scenes = [(0, WIDE, True), (5, NEAR, False)]
    records = mined(made, *scenes)
    made.refresh(records)
    first = len(made.store)
    # equal scores give equal thresholds, which none of the cars exceeds; the rest by the defaults
    assert first == 3 and 2 not in made.store.labels.tolist()
    again = mined(made, *scenes)
    expected = torch.tensor([0.0, 0, 1, 1, 1])
    torch.testing.assert_close(again[1]['trusted'], expected, atol=1e-3, rtol=0)
    made.refresh(again)
    assert len(made.store) == first and int(made.store.version) == 2
    assert made.store.rounds.tolist() == [0] * first


@pytest.mark.parametrize('refresh', [False, True])
def test_stored_boxes_are_kept_or_evicted(model, refresh):
    """B8: the official code never corrects; with ``refresh`` what fails the low thresholds goes."""
    made = model(high=None, thresholds=dict(init=dict(cls=0.5, view_iou=0.5), min_pool=100))
    made.high = dict(min_points=6, refresh=refresh)
    rows = [(5, 0, 2, 0.0), (12, 3, 2, 0.0), (18, -5, 0, 0.0)]
    made.refresh([record(4, rows, [[0.9, 0.9]] * 3), record(6, rows[:1], [[0.9, 0.9]])])
    assert len(made.store) == 4
    # the first is seen with a low score, the second 0.2 m away, the third as another class
    later = [(5, 0, 2, 0.0), (12.2, 3, 2, 0.0), (18, -5, 1, 0.0)]
    made.refresh([record(4, later, [[0.4, 0.9], [0.9, 0.9], [0.9, 0.9]], trusted=1.0)])
    if refresh:
        assert made.store.frame_ids() == [4, 6]
        torch.testing.assert_close(made.store.frame(4)[0], boxes_of(rows[1:2])[0])
    else:
        assert len(made.store) == 4
    # a frame that was not looked at keeps its boxes
    assert len(made.store.frame(6)[0]) == 1


def test_eviction_of_a_frame_without_any_prediction(model):
    made = model(thresholds=dict(init=dict(cls=0.5, view_iou=0.5)), high=None)
    made.high = dict(min_points=6, refresh=True)
    made.refresh([record(4, [(5, 0, 2)], [[0.9, 0.9]])])
    made.refresh([record(4, [], [])])
    assert len(made.store) == 0 and made.store.frame_ids() == []


# ------------------------------------------------------------------ three levels


def test_levels_of_a_step_by_hand(model):
    """Scores 0.95, 0.7, 0.4, 0.05 and a stored box, thresholds 0.9 and 0.5, removal above 0.1."""
    scripted = {1: 0.95, 2: 0.7, 3: 0.4, 4: 0.05, 5: 0.95}
    made = model(lambda number, label: scripted[number], high=0.9, low=0.5)
    boxes, labels = boxes_of(NEAR)
    stored = dict(
        frames=torch.tensor([3]), boxes=boxes[4:], labels=labels[4:], scores=torch.tensor([0.9])
    )
    made.store.update(stored, 0)
    scenes = read(made, (3, NEAR, False))
    target, suppressed = made.pseudo_labels(scenes)
    found, found_labels, weights = target.lists()[0]
    # the stored box first with weight 1, then the two above the low thresholds
    torch.testing.assert_close(found, boxes[[4, 0, 1]], atol=1e-4, rtol=0)
    assert torch.equal(found_labels, labels[[4, 0, 1]])
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.95, 0.7]), atol=1e-4, rtol=0)
    gone, gone_labels, _ = suppressed.lists()[0]
    torch.testing.assert_close(gone, boxes[2:3], atol=1e-4, rtol=0)
    assert torch.equal(gone_labels, labels[2:3])


def random_case(seed, count=14, batch=3):
    """Crowded teacher boxes, scores, kept boxes."""
    generator = torch.Generator().manual_seed(seed)

    def draw(number):
        unit = torch.rand(number, 4, generator=generator)
        labels = torch.randint(3, (number,), generator=generator)
        rows = [
            (float(20 * a), float(20 * b - 10), int(c), float(6 * d))
            for (a, b, d, _), c in zip(unit, labels, strict=True)
        ]
        boxes, labels = boxes_of(rows)
        boxes[:, 2] += 3 * unit[:, 3] - 1.5
        return boxes, labels

    weak = [draw(count - row) for row in range(batch)]
    kept = [draw(5), draw(0), draw(3)]
    weak_batch = BoxBatch.from_lists(*zip(*weak, strict=True), [
        torch.rand(len(each[1]), generator=generator) for each in weak])  # fmt: skip
    scores = torch.rand(batch, count, 2, generator=generator) ** 0.3
    scores[..., 0] = weak_batch.weights
    return weak_batch, BoxBatch.from_lists(*zip(*kept, strict=True)), scores


@pytest.mark.parametrize('seed', range(6))
def test_laws_of_the_levels(model, seed):
    """hssda facts 18 and 20 on crowded random boxes."""
    made = model(high=0.8, low=0.35)
    weak, kept, scores = random_case(seed)
    made.judge = lambda points, frames, purpose: (weak, weak, scores)
    made.kept_boxes = lambda scenes: kept
    scenes = read(made, *((frame, [], False) for frame in range(3)))
    target, suppressed = made.pseudo_labels(scenes)
    softs = gones = 0
    for row in range(3):
        hard = kept.lists()[row][0]
        boxes, _, weights = (part[len(hard) :] for part in target.lists()[row])
        torch.testing.assert_close(target.lists()[row][0][: len(hard)], hard)
        assert target.lists()[row][2][: len(hard)].tolist() == [1.0] * len(hard)
        gone = suppressed.lists()[row][0]
        candidates, valid = weak.boxes[row], weak.valid[row]
        for box, weight in zip(boxes, weights, strict=True):
            index = int(((candidates - box).abs().sum(1) == 0).nonzero()[0])
            assert valid[index] and bool((scores[row, index] > 0.35).all())
            assert float(weight) == pytest.approx(float(scores[row, index].prod()))
            assert 0 < float(weight) <= 1
        assert float(bev_iou(boxes, hard).sum()) == 0
        everything = torch.cat([hard, boxes])
        assert float(iou_3d(gone, everything).sum()) == 0
        # nothing that could be removed was forgotten, and nothing else was removed
        free = iou_3d(candidates, everything).sum(1) == 0
        expected = valid & free & (weak.weights[row] > 0.1)
        assert len(gone) == int(expected.sum())
        high = (scores[row] > 0.8).all(1)
        assert not (high & ~(scores[row] > 0.35).all(1)).any()
        softs, gones = softs + len(boxes), gones + len(gone)
    assert softs > 2 and gones > 2


def test_mined_boxes_pass_the_low_thresholds_too(model):
    made = model(thresholds=dict(decimals=2))
    records = random_records(30, seed=3)
    made.refresh(records)
    levels = [made.levels(r['scores'][None], r['labels'][None])[0] for r in records]
    passed = torch.cat([(level == 2) for level in levels])
    low = torch.cat([(level >= 1) for level in levels])
    assert passed.any() and bool((low | ~passed).all())
    assert len(made.store) <= int(passed.sum())


def test_labelled_frames_are_left_alone(model):
    """hssda fact 19: no selection, byte-identical points, weights 1, in a mixed batch."""
    made = (
        model(0.05, high=0.9, low=0.01, low_level=None) if False else model(0.3, high=0.9, low=0.5)
    )
    made.store.update(
        dict(
            frames=torch.tensor([7]),
            boxes=boxes_of(NEAR[:1])[0],
            labels=torch.tensor([2]),
            scores=torch.tensor([0.9]),
        ),
        0,
    )
    # frame 7 is labelled (and, wrongly, in the store); the teacher finds what labels do not name
    inputs, samples = batch_of((7, NEAR[:2], True), (8, NEAR, False))
    extra = cloud(*boxes_of(NEAR[2:]), ground=0, first=20)
    inputs['points'][0] = torch.cat([inputs['points'][0], extra])
    scenes = made.read_batch(inputs, samples)
    target, suppressed = made.pseudo_labels(scenes)
    boxes, labels, weights = target.lists()[0]
    assert torch.equal(boxes, boxes_of(NEAR[:2])[0]) and weights.tolist() == [1, 1]
    assert suppressed.valid[0].sum() == 0 and suppressed.valid[1].sum() == len(NEAR)
    from mmdistill.det3d.semi_detector import remove_points

    left = remove_points(scenes.points, suppressed).lists()
    assert torch.equal(left[0], inputs['points'][0])
    assert len(left[1]) < len(inputs['points'][1])


def test_a_labelled_batch_never_asks_the_teacher(model):
    made = model()
    made.loss(*batch_of((1, NEAR, True), (2, WIDE, True)))
    assert made.teacher.predict.calls == 0
    made.loss(*batch_of((1, NEAR, True), (2, WIDE, False)))
    assert made.teacher.predict.calls == 2


def test_removal_empties_low_boxes_and_spares_kept_ones(model):
    """hssda fact 21: 0 points left inside, kept boxes whole, at least one point per frame."""
    scripted = {1: 0.95, 2: 0.3, 3: 0.3, 4: 0.95, 5: 0.3}
    made = model(lambda number, label: scripted[number], high=0.99, low=0.5, student_view={})
    scenes = read(made, (3, NEAR, False))
    target, suppressed = made.pseudo_labels(scenes)
    batch, _, _ = made.student_batch(scenes, target, suppressed)
    boxes, _ = boxes_of(NEAR)
    boxes[:, 2] += 0.01
    boxes[:, 3:6] -= 0.02  # not the markers on the faces
    before = points_in_boxes(scenes.points.points[:, :3], boxes).sum(0)
    after = points_in_boxes(batch['points'][0][:, :3], boxes).sum(0)
    assert after[[1, 2, 4]].tolist() == [0, 0, 0]
    assert torch.equal(after[[0, 3]], before[[0, 3]])
    assert len(batch['points'][0]) >= 1


def test_a_scene_emptied_by_removal_keeps_one_point(model):
    """A suppressed box over the whole range in the middle scene."""
    made = model()
    huge = BoxBatch.from_lists(
        [torch.tensor([[12.8, 0, -5, 80, 80, 12, 0.0]])] * 2, [torch.tensor([2])] * 2,
        [torch.tensor([0.4])] * 2,
    )  # fmt: skip
    made.judge = lambda points, frames, purpose: (huge, huge, torch.full((2, 1, 2), 0.4))
    inputs, samples = batch_of((1, NEAR, False), (2, NEAR, True), (3, NEAR, False))
    scenes = made.read_batch(inputs, samples)
    target, suppressed = made.pseudo_labels(scenes)
    batch, _, _ = made.student_batch(scenes, target, suppressed)
    assert [len(each) for each in batch['points']][::2] == [1, 1]
    losses = made.loss(inputs, samples)
    assert all(bool(torch.stack(v).isfinite().all()) for v in losses.values())


# ------------------------------------------------------------------ switches


def test_soft_weight_is_the_product_of_the_named_scores(model):
    assert soft_weights(torch.tensor([[0.5, 0.8, 0.9]]), (0, 2)).tolist() == [pytest.approx(0.45)]
    made = model(0.7, high=0.9, low=0.5, ambiguous=dict(weight=('cls',)))
    target, _ = made.pseudo_labels(read(made, (3, NEAR, False)))
    assert target.lists()[0][2].tolist() == pytest.approx([0.7] * len(NEAR))


def test_weight_of_pseudo_boxes_follows_the_ramp(model):
    """The buffer ``unsup_weight`` weights stored and soft boxes, not ground truth."""
    made = model(0.8, high=0.9, low=0.5)
    boxes, labels = boxes_of(NEAR[4:])
    scores = torch.ones(1)
    made.store.update(dict(frames=torch.tensor([3]), boxes=boxes, labels=labels, scores=scores), 0)
    scenes = read(made, (1, NEAR[:1], True), (3, NEAR, False))
    plain, low = made.pseudo_labels(scenes)
    made.unsup_weight.fill_(0.25)
    ramped, same = made.pseudo_labels(scenes)
    assert plain.weights[1].tolist()[1:] == pytest.approx([1.0] + [0.8] * 4 + [0.0], abs=1e-4)
    assert torch.equal(ramped.weights, plain.weights * torch.tensor([[1.0], [0.25]]))
    assert torch.equal(low.valid, same.valid)
    made.ambiguous = made.low = None
    stored, _ = made.pseudo_labels(scenes)
    assert [each[2].tolist() for each in stored.lists()] == [[1.0], [0.25]]


def test_objectness_of_two_stage_detectors_is_used(model):
    """Official scores: cls, objectness, view overlap; weight cls times objectness."""
    made = model(
        0.8, scores=('cls', 'objectness', 'view_iou'), ambiguous=dict(weight=('cls', 'objectness'))
    )
    torch.testing.assert_close(made.filter.high[:, 0], torch.tensor([0.99, 0.95, 0.93]))
    made.filter.low.fill_(0.5)
    made.filter.high.fill_(0.9)
    read_boxes = made.teacher.predict

    def predict(inputs, data_samples):
        for row, done in enumerate(read_boxes(inputs, data_samples)):
            count = len(done.pred_instances_3d.scores_3d)
            done.pred_instances_3d.roi_scores_3d = torch.linspace(0.2, 0.8, count) + 0.1 * row
        return data_samples

    made.teacher.predict = predict
    scenes = read(made, (3, NEAR, False), (4, NEAR[:2], False))
    target, _ = made.pseudo_labels(scenes)
    first, second = (each[2].tolist() for each in target.lists())
    # of 0.2, 0.35, 0.5, 0.65, 0.8 the last two exceed 0.5; of 0.3, 0.9 the last
    assert first == pytest.approx([0.8 * 0.65, 0.8 * 0.8])
    assert second == pytest.approx([0.8 * 0.9])


def test_objectness_without_a_second_stage_is_a_clear_error(model):
    made = model(scores=('cls', 'objectness', 'view_iou'))
    with pytest.raises(UserError, match='two-stage'):
        made.loss(*batch_of((1, NEAR, False)))


def test_excluded_classes_get_no_soft_label(model):
    made = model(0.7, high=0.9, low=0.5, ambiguous=dict(exclude_classes=('Pedestrian',)))
    target, suppressed = made.pseudo_labels(read(made, (3, NEAR, False)))
    assert sorted(target.lists()[0][1].tolist()) == [1, 2, 2]
    # what is no label and touches none is removed
    assert suppressed.lists()[0][1].tolist() == [0, 0]


def test_levels_can_be_switched_off_one_by_one(model):
    scripted = {1: 0.95, 2: 0.7, 3: 0.4, 4: 0.7, 5: 0.4}
    scenes = (3, NEAR, False)
    soft_off = model(lambda n, label: scripted[n], high=0.9, low=0.5, ambiguous=None)
    target, suppressed = soft_off.pseudo_labels(read(soft_off, scenes))
    assert target.valid.sum() == 0 and suppressed.valid.sum() == 5
    made = model(lambda n, label: scripted[n], high=0.9, low=0.5)
    made.low = None
    target, suppressed = made.pseudo_labels(read(made, scenes))
    assert suppressed is None and target.valid.sum() == 3
    made.ambiguous = None
    made.teacher.predict.calls = 0
    target, suppressed = made.pseudo_labels(read(made, scenes))
    assert suppressed is None and target.valid.sum() == 0 and made.teacher.predict.calls == 0


def test_thresholds_of_one_leave_the_supervised_loss(model, hssda):
    """hssda fact 23: nothing is labelled, weighted or removed; the loss is the supervised one."""
    made = model(1.0, high=1.0, low=1.0)
    made.low = None
    inputs, samples = batch_of((1, NEAR, True), (2, WIDE, False), (3, [], True))
    found = made.loss(inputs, samples)
    assert made.teacher.predict.calls == 2 and made.pseudo_stats.kept.sum() == 0
    scenes = made.read_batch(inputs, samples)
    batch, targets, sigma = made.student_batch(scenes, scenes.boxes, None)
    from mmdistill.det3d.shuffle_aug import unshuffled_at

    with unshuffled_at(made.student, 'neck', made.patches, sigma):
        expected = made.student.loss(batch, targets)
    for name, value in expected.items():
        assert torch.equal(torch.stack(found[name]), torch.stack(value))
    # on labelled scenes alone it is the loss of the plain detector, whatever the thresholds
    labelled = batch_of((1, NEAR, True), (3, [], True))
    first = made.loss(*labelled)
    made.filter.high.zero_()
    made.filter.low.zero_()
    second = made.loss(*labelled)
    for name, value in first.items():
        assert torch.equal(torch.stack(second[name]), torch.stack(value))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(high=dict(minpoints=3)), r'high.*minpoints.*min_points'),
        (dict(ambiguous=dict(exclude=('Car',))), r'ambiguous.*exclude.*exclude_classes'),
        (dict(low=dict(thr=0.1)), r'low.*thr.*score_thr'),
        (dict(pairs='some'), "'all' or 'best'"),
        (dict(match_iou=0), r'match_iou .* \(0, 1\], got 0'),
        (dict(match_iou=1.5), 'match_iou'),
        (dict(low=dict(score_thr=1.5)), r'low.score_thr .* \[0, 1\]'),
        (dict(high=dict(min_points=-1)), 'high.min_points .* -1'),
        (dict(high=dict(min_points=5.5)), 'high.min_points .* 5.5'),
        (dict(thresholds=dict(decimals=-1)), 'thresholds.decimals .* -1'),
        (dict(teacher_view=dict(rotation=(1, -1))), 'rotation'),
        (dict(scores=('cls', 'iou')), "'iou'.*view_iou"),
        (dict(ambiguous=dict(weight=('cls', 'objectness'))), r'ambiguous.weight.*objectness.*cls'),
        (dict(ambiguous=dict(exclude_classes=('Pedestrain',))), 'exclude_classes.*Pedestrain'),
        (dict(thresholds=dict(init=dict(clss=0.9))), 'init.*clss'),
        (dict(thresholds=dict(minimum=3)), 'minimum'),
        (dict(teacher_view=dict(rot=(0, 1))), 'rot'),
        (dict(threshold=dict()), 'threshold'),
    ],
)
def test_wrong_options_are_named(hssda, changes, message):
    with pytest.raises((UserError, TypeError), match=message):
        hssda(**changes)


# ------------------------------------------------------------------ persistence and secrecy


def test_loss_twice_is_the_same(model):
    """With all three levels at work; thresholds, store and counters stay."""
    scripted = {1: 0.95, 2: 0.7, 3: 0.4, 4: 0.3, 5: 0.95}
    made = model(
        lambda n, label: scripted[n], high=0.9, low=0.5,
        object_bank=dict(sample_groups=dict(Car=2, Pedestrian=2)),
    )  # fmt: skip
    boxes, labels = boxes_of([(20, 8, 2), (20, -8, 0)])
    made.bank.add_frame(1, cloud(boxes, labels), boxes, labels)
    inputs, samples = batch_of((1, NEAR, True), (2, NEAR, False))
    before = {name: value.clone() for name, value in made.state_dict().items()}
    first, second = made.loss(inputs, samples), made.loss(inputs, samples)
    for name, value in first.items():
        assert torch.equal(torch.stack(value), torch.stack(second[name]))
    running = ('running_mean', 'running_var', 'num_batches_tracked')
    for name, value in made.state_dict().items():
        if not (name.startswith('student.') and name.endswith(running)):
            assert torch.equal(value, before[name]), name
    assert len(made.bank) == 2


def test_hidden_truth_changes_the_statistics_and_nothing_else(model):
    """hssda section 4.4 and fact 29: training cannot read annotations of unlabelled frames."""
    made = model(0.7, high=0.9, low=0.5)
    results, stats = [], []
    for rows in (NEAR, [(20, 5, 1)], None):
        inputs, samples = batch_of((1, NEAR, True), (2, NEAR, False))
        if rows is not None:
            boxes, labels = boxes_of(rows)
            hidden = (boxes.numpy(), labels.numpy())
            samples[1] = sample(2, boxes, labels, labeled=False, hidden=hidden)
        results.append(made.loss(inputs, samples))
        stats.append(made.pseudo_stats)
        assert len(made.mine(made.read_batch(inputs, samples))[1]['trusted'].nonzero()) == 0
    for other in results[1:]:
        for name, value in results[0].items():
            assert torch.equal(torch.stack(other[name]), torch.stack(value))
    assert int(stats[0].true_positive.sum()) == 5 and int(stats[1].true_positive.sum()) == 0
    assert stats[2].true_positive is None


def test_statistics_count_the_step(model):
    scripted = {1: 0.95, 2: 0.7, 3: 0.4, 4: 0.05, 5: 0.95}
    made = model(lambda number, label: scripted[number], high=0.9, low=0.5)
    made.loss(*batch_of((1, NEAR, True), (2, NEAR, False)))
    assert made.pseudo_stats.total.tolist() == [2, 1, 2]
    assert made.pseudo_stats.kept.tolist() == [1, 0, 2]
    assert len(made.pseudo_stats.scores) == 5


def test_checkpoint_restores_thresholds_and_store(model, hssda, tmp_path):
    """B4: nothing that mining decided is lost, whatever the other model holds."""
    made = model(script)
    made.refresh(random_records())
    path = str(tmp_path / 'model.pth')
    save_checkpoint(dict(state_dict=made.state_dict()), path)
    for seed in (None, 5):
        other = hssda(weight_seed=9)
        if seed:
            other.refresh(random_records(20, seed))
            assert len(other.store) != len(made.store)
        load_checkpoint(other, path, map_location='cpu', strict=True)
        assert equal_states(fresh_state(made), fresh_state(other))
        assert made.store.frame_ids() == other.store.frame_ids()


def test_a_plain_checkpoint_lacks_only_what_mining_will_find(model):
    made = model()
    plain = made.branch_state_dict('student')
    missing = made.load_state_dict(plain, strict=False)
    assert not missing.unexpected_keys
    assert all(key.startswith(('filter.', 'store.')) for key in missing.missing_keys)


def test_scenes_of_the_module_are_what_they_claim():
    points = PointBatch.from_list([cloud(*boxes_of(NEAR))])
    assert len(PerfectTeacher().read(points.points).labels_3d) == len(NEAR)
    assert CLASSES[2] == 'Car' and sample(3).sample_idx == 3
