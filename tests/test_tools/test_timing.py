"""Timing: turns are taken, parts count for themselves, nothing stays changed."""

import time
import types

import pytest
import torch

CPU = torch.device('cpu')


@pytest.fixture
def timing(tools):
    """The module."""
    from benchmark import timing

    return timing


def test_operations_take_turns_and_the_first_round_warms_up(timing):
    calls = []
    operations = {
        name: timing.Operation(
            lambda name=name: calls.append(name), lambda name=name: calls.append(f'{name}?')
        )
        for name in 'ab'
    }
    found = timing.interleaved(operations, 3, CPU)
    assert len(calls) == 2 * 2 * 4
    assert calls[:8] == ['b?', 'b', 'a?', 'a', 'a?', 'a', 'b?', 'b']
    assert all(len(times.wall) == len(times.cpu) == 3 for times in found.values())


def test_sleep_takes_no_processor_time(timing):
    found = timing.interleaved({'sleep': timing.Operation(lambda: time.sleep(0.05))}, 2, CPU)
    metrics = found['sleep'].metrics()
    assert metrics['ms'] >= 49 and metrics['cpu_ms'] < metrics['ms']
    assert metrics['ms_min'] <= metrics['ms'] <= metrics['ms_max']


def test_an_inner_part_counts_once(timing, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: now[0])
    parts = timing.Breakdown(CPU)

    def spend(seconds):
        now[0] += seconds

    with parts.part('outer'):
        spend(1)
        for _ in range(2):
            with parts.part('inner'):
                spend(3)
        spend(1)
    assert parts.seconds == {'inner': 6, 'outer': 2}
    assert parts.calls == {'inner': 2, 'outer': 1}


def test_watched_functions_are_put_back(timing):
    module = torch.nn.Linear(1, 1)
    space = types.SimpleNamespace(work=lambda: 5)
    own = space.work
    parts = timing.Breakdown(CPU)
    with parts.watch((module, 'forward', 'net'), (space, 'work', 'work')):
        module(torch.zeros(1, 1))
        assert space.work() == 5
    assert parts.calls == {'net': 1, 'work': 1}
    assert 'forward' not in vars(module) and space.work is own
    module(torch.zeros(1, 1))
    assert parts.calls['net'] == 1
