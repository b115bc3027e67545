"""Limits of a minute hold for every minute; pauses; calls side by side."""

import math

from hypothesis import given
from hypothesis import strategies as st
from virtual_time import fullest

from mmkd.teachers.rate_limit import Concurrency, Limits, SlidingWindow

LIMIT = 20
CALLS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, LIMIT), st.floats(0, 1)), min_size=1, max_size=25
)


@given(CALLS)
def test_no_window_holds_more_and_none_waits_longer_than_it_must(calls):
    window, now, events = SlidingWindow(LIMIT), 0, []
    for gap, amount, _ in calls:
        now += gap
        when = int(window.earliest(amount, now))
        # by trying every second: what is taken at t counts during [t, t + 60)
        tried = next(
            t
            for t in range(now, now + 1000)
            if sum(a for s, a in events if s <= t < s + 60) + amount <= LIMIT
        )
        assert when == tried
        now = when
        window.take(amount, now)
        events.append((now, amount))
    assert fullest(events, 60) <= LIMIT


@given(CALLS)
def test_refunds_are_used_and_do_no_harm(calls):
    window, now, events, open_calls = SlidingWindow(LIMIT), 0, [], []
    for gap, amount, share in calls:
        now = int(window.earliest(amount, now + gap))
        open_calls.append((len(events), window.take(amount, now), int(share * amount)))
        events.append((now, amount))
        if gap % 2:
            place, taken, truth = open_calls.pop(0)
            window.correct(taken, truth)
            events[place] = (events[place][0], truth)
            # what is free now is exactly what is not in use
            used = sum(a for t, a in events if t <= now < t + 60)
            assert window.earliest(LIMIT - used, now) == now
            assert used == 0 or window.earliest(LIMIT - used + 1, now) > now
    assert fullest(events, 60) <= LIMIT


def test_a_full_minute_at_its_end_leaves_nothing_for_the_next():
    window = SlidingWindow(3)
    for _ in range(3):
        window.take(1, 59)
    assert window.earliest(1, 60) == 119
    assert window.earliest(4, 60) == math.inf


def test_more_than_expected_is_a_debt():
    window = SlidingWindow(10)
    first = window.take(2, 0)
    window.take(2, 30)
    window.correct(first, 15)
    assert window.earliest(1, 40) == 60
    assert window.earliest(9, 40) == 90
    gone = window.take(10, 90)
    assert window.earliest(1, 150) == 150
    window.correct(gone, 1000)
    assert window.earliest(10, 150) == 150


def test_calls_of_a_minute_are_spread_over_it():
    limits, events, now = Limits(rpm=20), [], 0
    for _ in range(60):
        now = limits.earliest(0, now)
        limits.take(0, now)
        events.append((now, 1))
    assert fullest(events, 60) == 20 and fullest(events, 10) == 4
    # 20, 20 and 20 calls, the third lot begins at 120 and spreads over 50 s
    assert now < 180


def test_pauses_and_both_limits_hold():
    limits = Limits(rpm=60, tpm=100)
    assert limits.earliest(101, 0) == math.inf
    taken = limits.take(100, 0)
    assert limits.earliest(1, 0) == 60
    limits.correct(taken, 40)
    assert limits.earliest(60, 0) == 0 and limits.earliest(61, 0) == 60
    limits.pause_until(75)
    limits.pause_until(70)
    assert limits.earliest(1, 0) == 75 and limits.earliest(1, 80) == 80
    assert Limits().earliest(10**9, 5) == 5


def test_calls_side_by_side_halve_and_grow_by_one_a_round():
    calls = Concurrency(8)
    marks = [calls.start() for _ in range(8)]
    for mark in marks:
        calls.end(mark, crowded=True)
    # eight refusals of one round halve once
    assert calls.limit == 4 and calls.active == 0
    limits = []
    for _ in range(4 + 5 + 6 + 7 + 20):
        calls.end(calls.start(), success=True)
        limits.append(calls.limit)
    assert limits == [4] * 3 + [5] * 5 + [6] * 6 + [7] * 7 + [8] * 21
    for _ in range(9):
        calls.end(calls.start(), crowded=True)
    assert calls.limit == 1
    calls.end(calls.start())
    assert calls.limit == 1
    calls.end(calls.start(), success=True)
    assert calls.limit == 2


def test_a_success_of_before_a_halving_counts_but_a_refusal_does_not():
    calls = Concurrency(4)
    old, older, new = calls.start(), calls.start(), calls.start()
    calls.end(old, crowded=True)
    calls.end(older, crowded=True)
    calls.end(new, crowded=True)
    assert calls.limit == 2
    calls.end(calls.start(), crowded=True)
    assert calls.limit == 1
