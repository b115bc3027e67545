"""Journals: whole rows after a crash and on a full disk, one writer, damage that is named."""

import errno
import os
import resource

import pytest
from collection_fakes import FORK, forked, some_traces

from mmdistill.core.errors import UserError
from mmkd.collection.journal import Journal, drop_rows, encoded, mend, read_journal

ROWS = [encoded(each) for each in some_traces(6)]


@pytest.fixture
def path(tmp_path):
    """A journal of four rows."""
    with Journal(tmp_path / 'traces.jsonl') as journal:
        journal.append(ROWS[:3])
        journal.append(ROWS[3:4])
    return tmp_path / 'traces.jsonl'


def keys(path):
    return [trace.row_key for _, _, trace in read_journal(path)]


def test_rows_come_back_in_their_order_with_their_offsets(path):
    found = list(read_journal(path))
    assert [line for _, line, _ in found] == ROWS[:4]
    assert all(encoded(trace) == line for _, line, trace in found)
    content = path.read_bytes()
    assert all(content[offset:].startswith(line) for offset, line, _ in found)


def test_one_write_and_one_sync_for_a_group(path, monkeypatch):
    calls = []
    write, sync = os.write, os.fsync
    with Journal(path) as journal:
        monkeypatch.setattr(os, 'write', lambda *a: calls.append('write') or write(*a))
        monkeypatch.setattr(os, 'fsync', lambda *a: calls.append('sync') or sync(*a))
        journal.append(ROWS[4:])
    assert calls == ['write', 'sync'] and path.read_bytes() == b''.join(ROWS)


@pytest.mark.parametrize('cut', range(1, len(ROWS[4]), 97))
def test_a_row_that_is_cut_anywhere_is_removed(path, cut):
    whole = path.read_bytes()
    path.write_bytes(whole + ROWS[4][:cut])
    assert len(keys(path)) == 4, 'others can read it meanwhile'
    with Journal(path) as journal:
        assert path.read_bytes() == whole
        journal.append(ROWS[4:5])
    assert path.read_bytes() == whole + ROWS[4]


def test_a_row_that_lacks_its_end_of_line_alone_is_kept(path):
    path.write_bytes(path.read_bytes()[:-1])
    assert len(keys(path)) == 4 and mend(path) == 0 and path.read_bytes() == b''.join(ROWS[:4])


def test_a_torn_line_longer_than_a_block_and_a_torn_file(path):
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"a": "' + b'x' * 200_000)
    assert mend(path) == 200_007 and path.read_bytes() == whole
    path.write_bytes(ROWS[0][:50])
    assert mend(path) == 50 and path.read_bytes() == b'' and mend(path) == 0


def test_a_last_line_that_is_no_json_is_torn_even_with_its_end(path):
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"row_k\n')
    assert mend(path) == 8 and path.read_bytes() == whole


def test_zeros_that_a_power_failure_leaves_are_removed(path):
    whole = path.read_bytes()
    path.write_bytes(whole + b'\0' * 4096)
    assert mend(path) == 4096 and path.read_bytes() == whole


@pytest.mark.parametrize('bad', [b'{"row_key": \n', b'[]\n', ROWS[0].replace(b'"teacher"', b'"t"')])
def test_a_malformed_line_that_is_not_last_is_named(path, bad):
    content = b''.join([ROWS[0], bad, *ROWS[1:3]])
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'traces\.jsonl:2: no trace.*remove the line'):
        keys(path)
    assert path.read_bytes() == content


def test_a_last_line_of_json_that_is_no_trace_is_not_removed(path):
    content = path.read_bytes() + b'{"row_key": "of another version"}\n'
    path.write_bytes(content)
    assert mend(path) == 0 and path.read_bytes() == content
    with pytest.raises(UserError, match=r'traces\.jsonl:5: no trace'):
        keys(path)


def test_a_second_writer_is_refused(path):
    with Journal(path), pytest.raises(UserError, match='another process writes to it'):
        Journal(path)
    with Journal(path):
        pass


@pytest.mark.parametrize('taken', [0, 10, len(ROWS[4]) + 10])
def test_a_full_disk_keeps_whole_rows_and_says_so(path, monkeypatch, taken):
    write, left = os.write, [taken]

    def full(descriptor, content):
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content[: left.pop()])

    with Journal(path) as journal:
        monkeypatch.setattr(os, 'write', full)
        with pytest.raises(UserError, match=r'traces\.jsonl.*No space left.*make room and run'):
            journal.append(ROWS[4:])
        monkeypatch.undo()
        kept = 5 if taken > len(ROWS[4]) else 4
        assert path.read_bytes() == b''.join(ROWS[:kept])
        journal.append(ROWS[kept:])
    assert path.read_bytes() == b''.join(ROWS)


def test_a_limit_of_the_system_on_the_size_of_files(tmp_path):
    path, room = tmp_path / 'traces.jsonl', sum(map(len, ROWS[:2])) + 30

    def work(told):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        try:
            with Journal(path) as journal:
                journal.append(ROWS)
        except UserError as error:
            told.put(str(error))

    told = FORK.SimpleQueue()
    forked(work, told).join(10)
    assert 'File too large; make room' in told.get()
    assert len(keys(path)) == 2 and path.read_bytes().endswith(b'\n')


def test_rows_are_dropped_at_once_or_not_at_all(path, monkeypatch):
    before = path.read_bytes()
    first = keys(path)[0]

    def broken(*names):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'replace', broken)
    with pytest.raises(UserError, match='cannot be written anew: No space left'):
        drop_rows(path, lambda trace: trace.row_key == first)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]
    assert drop_rows(path, lambda trace: False) == 0
    monkeypatch.undo()
    assert drop_rows(path, lambda trace: trace.row_key == first) == 1
    assert path.read_bytes() == b''.join(ROWS[1:4])
