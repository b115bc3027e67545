"""Laws of segments: where they start, which expert comes when, and that no state is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmdistill.core.errors import UserError
from mmdistill.core.positioned_data import positioned_loader
from mmkd.experts.store import TrajectoryStore
from mmkd.matching.segments import InOrder, SegmentDataset, single

EXPERTS, EPOCHS, SIZE = 5, 9, 4


@pytest.fixture(scope='module')
def store(store_of: Callable[..., TrajectoryStore]) -> TrajectoryStore:
    """Five experts of nine epochs; every number names its expert, epoch and place."""
    numbers = torch.arange(EXPERTS * (EPOCHS + 1) * SIZE, dtype=torch.float32)
    return store_of(numbers.view(EXPERTS, EPOCHS + 1, SIZE))


@pytest.fixture
def segments(store: TrajectoryStore) -> Callable[..., SegmentDataset]:
    """Makes a data set of segments."""

    def make(**settings: object) -> SegmentDataset:
        """With other settings than these."""
        options = dict(iterations=400, lower=2, upper=5, length=3)
        return SegmentDataset(str(store.folder), **{**options, **settings})

    return make


def same(one: dict, other: dict) -> bool:
    """Whether two segments are equal in all they have."""
    return one.keys() == other.keys() and all(
        torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])) for key in one
    )


def test_items_are_rows_of_the_store(
    segments: Callable[..., SegmentDataset], store: TrajectoryStore
) -> None:
    data = segments()
    assert len(data) == 400
    for position in (0, 1, 17, 399):
        item = data[position]
        expert, epoch = data.place(position)
        assert (item['position'], item['expert'], item['epoch']) == (position, expert, epoch)
        first = SIZE * ((EPOCHS + 1) * expert + epoch)
        assert item['start'].tolist() == [first + n for n in range(SIZE)]
        assert item['target'].tolist() == [first + 3 * SIZE + n for n in range(SIZE)]
        assert torch.equal(item['start'], store.snapshot(expert, epoch)[0])


@pytest.mark.parametrize('order', ['cycle', 'independent'])
def test_starts_are_all_epochs_from_lower_to_below_upper(
    order: str, segments: Callable[..., SegmentDataset]
) -> None:
    data = segments(order=order)
    counts = Counter(data.place(n)[1] for n in range(400))
    assert set(counts) == {2, 3, 4}
    # 400 even draws: expected 133, standard deviation 9.4
    assert max(abs(count - 400 / 3) for count in counts.values()) < 4 * 9.4


def test_the_bound_expands_to_its_end_and_stays(segments: Callable[..., SegmentDataset]) -> None:
    data = segments(lower=1, upper=2, upper_max=6, expansion=200, length=2)
    starts = [data.place(n)[1] for n in range(1000)]
    for number, bound in enumerate((2, 3, 4, 5)):
        assert set(starts[50 * number : 50 * (number + 1)]) == set(range(1, bound))
    assert set(starts[200:]) == {1, 2, 3, 4, 5}


def test_the_last_segment_ends_at_the_last_epoch(segments: Callable[..., SegmentDataset]) -> None:
    data = segments(lower=EPOCHS - 3, upper=EPOCHS - 2)
    assert data[0]['epoch'] + data.length == EPOCHS
    with pytest.raises(UserError, match='start at up to 7 need 10 epochs; the experts have 9'):
        segments(lower=EPOCHS - 3, upper=EPOCHS - 1)
    with pytest.raises(UserError, match='start at up to 7 need 10 epochs; the experts have 9'):
        segments(upper_max=EPOCHS - 1)


def test_every_expert_comes_once_per_cycle(segments: Callable[..., SegmentDataset]) -> None:
    data = segments()
    experts = [data.place(n)[0] for n in range(400)]
    cycles = [tuple(experts[at : at + EXPERTS]) for at in range(0, 400, EXPERTS)]
    assert all(sorted(cycle) == list(range(EXPERTS)) for cycle in cycles)
    assert len(set(cycles)) > 30
    assert {cycle[0] for cycle in cycles} == set(range(EXPERTS))


def test_independent_experts_are_drawn_evenly(segments: Callable[..., SegmentDataset]) -> None:
    data = segments(order='independent')
    experts = [data.place(n)[0] for n in range(1000)]
    # 1000 even draws: expected 200, standard deviation 12.6
    assert max(abs(count - 200) for count in Counter(experts).values()) < 4 * 12.6
    cycles = [experts[at : at + EXPERTS] for at in range(0, 1000, EXPERTS)]
    assert any(len(set(cycle)) < EXPERTS for cycle in cycles)


@pytest.mark.parametrize('order', ['cycle', 'independent'])
def test_items_depend_on_seed_and_position_alone(
    order: str, segments: Callable[..., SegmentDataset]
) -> None:
    data, again, other = segments(order=order), segments(order=order), segments(order=order, seed=1)
    forwards = [data.place(n) for n in range(100)]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert [again.place(n) for n in reversed(range(100))] == forwards[::-1]
    assert torch.equal(torch.get_rng_state(), state)
    assert segments(order=order, iterations=7).place(50) == forwards[50]
    assert [other.place(n) for n in range(100)] != forwards


def test_workers_change_nothing(segments: Callable[..., SegmentDataset]) -> None:
    data = segments(iterations=20)
    wanted = [data[n] for n in range(20)]
    for workers in (0, 2):
        loader = DataLoader(data, 1, sampler=InOrder(data), collate_fn=single, num_workers=workers)
        found = list(islice(loader, 20))
        assert all(same(*pair) for pair in zip(found, wanted, strict=True))


def test_a_loader_of_the_config_goes_on_where_it_was(
    segments: Callable[..., SegmentDataset], store: TrajectoryStore
) -> None:
    data = segments()
    config = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='mmkd.InOrder'),
        collate_fn=dict(type='mmkd.single'),
        dataset=dict(
            type='mmkd.SegmentDataset',
            experts=str(store.folder),
            iterations=400,
            lower=2,
            upper=5,
            length=3,
        ),
    )
    loader = positioned_loader(Runner.build_dataloader(config, seed=5), 5, infinite=True)
    loader.batch_sampler.seek(123)
    found = list(islice(loader, 4))
    assert all(same(found[n], data[123 + n]) for n in range(4))


def test_in_order(segments: Callable[..., SegmentDataset]) -> None:
    sampler = InOrder(segments(iterations=3), seed=4)
    assert len(sampler) == 3 and sampler.infinite
    assert list(islice(sampler, 5)) == [0, 1, 2, 3, 4]
    sampler.skip(40)
    assert list(islice(sampler, 3)) == [40, 41, 42]
    assert list(islice(sampler, 2)) == [0, 1]


def test_single_takes_one_segment() -> None:
    item = dict(position=0)
    assert single([item]) is item
    for batch in ([], [item, item]):
        with pytest.raises(UserError, match=f'batch_size .* must be 1, got {len(batch)}'):
            single(batch)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(order='cycles'), "order .* 'cycle' or 'independent', got 'cycles'"),
        (dict(expansion=0), 'expansion and length must be at least 1, got 0 and 3'),
        (dict(length=0), 'expansion and length must be at least 1, got 1 and 0'),
        (dict(lower=-1), 'lower=-1, upper=5, upper_max=None'),
        (dict(lower=5), 'lower=5, upper=5, upper_max=None'),
        (dict(upper_max=4), 'lower=2, upper=5, upper_max=4'),
        (dict(upper=8), 'segments of 3 epochs that start at up to 7 need 10 epochs'),
    ],
)
def test_errors(settings: dict, message: str, segments: Callable[..., SegmentDataset]) -> None:
    with pytest.raises(UserError, match=message):
        segments(**settings)


def test_experts_must_be_there_and_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='nowhere: there are no trajectories'):
        SegmentDataset(str(tmp_path / 'nowhere'), 10, 0, 1)
    store = TrajectoryStore.create_or_open(tmp_path / 'half', {}, 3, 2, SIZE)
    for epoch in range(3):
        store.write(1, epoch, torch.zeros(SIZE))
    store.finish(1)
    with pytest.raises(UserError, match=r'half: experts \[0, 2\] are not finished'):
        SegmentDataset(str(store.folder), 10, 0, 1)
