"""Which failures are worth another call, and how long to wait."""

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace

import pytest

from mmkd.teachers.retry import CallFailed, FullJitter, Kind, failure, retry_after, worth_another

RETRY, PERMANENT, TOO_LONG, DENIED = Kind.RETRY, Kind.PERMANENT, Kind.TOO_LONG, Kind.DENIED


@pytest.mark.parametrize(
    ('status', 'error', 'kind'),
    [
        *((status, {}, PERMANENT) for status in (301, 400, 405, 413, 415, 422)),
        *((status, {}, DENIED) for status in (401, 402, 403, 404)),
        *((status, {}, RETRY) for status in (408, 409, 425, 429, 500, 502, 503, 504, 529)),
        (400, dict(code='context_length_exceeded'), TOO_LONG),
        (413, dict(code='context_length_exceeded'), TOO_LONG),
        (400, dict(type='exceed_context_size_error', code=400), TOO_LONG),
        (400, dict(code=400, message="This model's maximum context length is 9"), TOO_LONG),
        (400, dict(code='content_filter', message='refused'), PERMANENT),
        (500, dict(code='context_length_exceeded'), RETRY),
        (429, dict(code='insufficient_quota'), DENIED),
        (429, dict(code='rate_limit_exceeded'), RETRY),
    ],
)
def test_kinds(status, error, kind):
    found = failure(status, error, {})
    assert found.kind is kind and found.status == status
    assert worth_another(found) == (kind is RETRY)
    assert not worth_another(ValueError())


def test_what_crowds_and_what_pauses():
    assert [s for s in (400, 408, 429, 500, 503, 504) if failure(s, {}, {}).crowded] == [
        408,
        429,
        504,
    ]
    wait = {'Retry-After': '3'}
    assert failure(429, {}, {}).pauses and not failure(503, {}, {}).pauses
    assert failure(503, {}, wait).pauses and not failure(400, {}, wait).pauses
    assert not failure(429, dict(code='insufficient_quota'), wait).crowded


def test_reasons_are_one_short_line():
    reason = str(failure(422, dict(message='a\n b\t' + 'c' * 500), {}))
    assert reason.startswith('HTTP 422: a b ccc') and len(reason) < 220
    # what denies a key may repeat it
    assert str(failure(401, dict(message='key sk-1 is wrong'), {})) == 'HTTP 401'


def date(seconds, now=None):
    """A date of HTTP so many seconds from now."""
    when = (now or datetime.now(timezone.utc)) + timedelta(seconds=seconds)
    return format_datetime(when, usegmt=True)


def test_retry_after_in_seconds_and_as_a_date():
    assert retry_after({'Retry-After': ' 7 '}) == 7
    assert retry_after({'Retry-After': '0.5'}) == 0.5
    assert 28 <= retry_after({'Retry-After': date(30)}) <= 30
    assert retry_after({'Retry-After': date(-30)}) == 0
    # by the clock of the endpoint, which is a year wrong
    then = datetime(2020, 1, 1, tzinfo=timezone.utc)
    assert retry_after({'Retry-After': date(45, then), 'Date': date(0, then)}) == 45
    obsolete = 'Wednesday, 01-Jan-20 00:00:45 GMT'
    assert retry_after({'Retry-After': obsolete, 'Date': date(0, then)}) == 45
    for bad in ('', 'soon', '-5', 'nan', 'inf'):
        assert retry_after({'Retry-After': bad}) is None
    assert retry_after({}) is None


def test_full_jitter_doubles_up_to_its_cap():
    longest = FullJitter(draw=lambda: 1.0)
    assert [longest.seconds(n) for n in range(1, 10)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert longest.seconds(5000) == 60
    drawn = [FullJitter().seconds(3) for _ in range(400)]
    assert 0 <= min(drawn) < 0.2 and 1.8 < max(drawn) <= 2
    assert abs(sum(drawn) / 400 - 1) < 0.15


def test_a_failure_that_pauses_its_endpoint_waits_there():
    def state(error):
        return SimpleNamespace(outcome=SimpleNamespace(exception=lambda: error), attempt_number=2)

    wait = FullJitter(draw=lambda: 1.0)
    assert wait(state(failure(429, {}, {}))) == 0
    assert wait(state(failure(503, {}, {}))) == 1
    assert wait(state(CallFailed(RETRY, 'no answer in time', crowded=True))) == 1
