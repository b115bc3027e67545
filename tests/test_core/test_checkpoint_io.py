"""Laws of checkpoint files: whole or absent, and a changed byte is noticed."""

import os
import zipfile

import pytest
import torch

from mmdistill.core.checkpoint_io import (
    read_record,
    save_checkpoint,
    seam,
    why_invalid,
    write_atomic,
)

CONTENT = dict(state_dict=dict(a=torch.arange(3000.0)), meta=dict(iter=4))


class Halt(BaseException):
    """Stands for a kill in tests within one process."""


@pytest.fixture
def observer():
    """Puts the seam back."""
    old = seam.observer
    yield seam
    seam.observer = old


def save(path, **changes):
    """Writes the content above."""
    about = dict(run=2, iter=4, epoch=1, resumable=True)
    save_checkpoint(dict(CONTENT, **changes), path, **about)
    return path


def test_a_checkpoint_is_an_ordinary_torch_file(tmp_path):
    path = save(tmp_path / 'a.pth')
    for options in (dict(), dict(mmap=True)):
        loaded = torch.load(path, weights_only=True, **options)
        assert loaded['state_dict']['a'].equal(CONTENT['state_dict']['a'])
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_the_record_says_what_was_saved(tmp_path):
    record = read_record(save(tmp_path / 'a.pth'))
    assert (record.run, record.iter, record.epoch, record.resumable) == (2, 4, 1, True)
    assert len(record.sha256) == 64 and record.size < os.path.getsize(tmp_path / 'a.pth')


def test_whole_files_are_valid(tmp_path):
    assert why_invalid(save(tmp_path / 'ours.pth')) is None
    torch.save(CONTENT, tmp_path / 'foreign.pth')
    assert why_invalid(tmp_path / 'foreign.pth') is None
    assert read_record(tmp_path / 'foreign.pth') is None
    os.rename(tmp_path / 'ours.pth', tmp_path / 'moved')
    assert why_invalid(tmp_path / 'moved') is None


def test_every_truncation_is_noticed(tmp_path):
    data = save(tmp_path / 'a.pth').read_bytes()
    for length in [0, 1, 100, len(data) // 2, *range(len(data) - 400, len(data))]:
        (tmp_path / 'b.pth').write_bytes(data[:length])
        assert why_invalid(tmp_path / 'b.pth'), length


def test_every_changed_byte_of_the_content_is_noticed(tmp_path):
    data = bytearray(save(tmp_path / 'a.pth').read_bytes())
    size = read_record(tmp_path / 'a.pth').size
    for place in [*range(0, size - 2, 97), size - 3]:
        data[place] ^= 4
        (tmp_path / 'b.pth').write_bytes(data)
        assert why_invalid(tmp_path / 'b.pth'), place
        data[place] ^= 4


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'empty'),
        (b'hello', 'not a checkpoint'),
        (b'PK\x05\x06' + b'\x00' * 18, 'not a checkpoint'),
    ],
)
def test_reasons_are_given(tmp_path, content, reason):
    (tmp_path / 'b.pth').write_bytes(content)
    assert reason in why_invalid(tmp_path / 'b.pth')
    assert 'missing' in why_invalid(tmp_path / 'none.pth')


def test_a_full_disk_is_said_so(tmp_path, observer):
    """torch alone reports a wrong position in the file."""

    def _full(stage, path, done):
        if done > 1000:
            raise OSError(28, 'No space left on device')

    observer.observer = _full
    with pytest.raises(OSError, match='No space left'):
        save(tmp_path / 'a.pth')
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('stage', ['write', 'sync', 'replace', 'replaced'])
def test_stopped_at_any_stage_old_or_new_is_there(tmp_path, observer, stage):
    path = save(tmp_path / 'a.pth', mark='old')

    def _halt(now, _path, done):
        if now == stage and (now != 'write' or done > 1000):
            raise Halt

    observer.observer = _halt
    with pytest.raises(Halt):
        save(path, mark='new')
    assert why_invalid(path) is None
    assert torch.load(path)['mark'] == ('new' if stage == 'replaced' else 'old')
    assert sorted(os.listdir(tmp_path)) == ['a.pth']


def test_a_full_disk_leaves_the_old_file(tmp_path):
    write_atomic(tmp_path / 'a', lambda file: file.write(b'old'))

    def _full(file):
        file.write(b'ne')
        raise OSError(28, 'No space left on device')

    with pytest.raises(OSError, match='No space'):
        write_atomic(tmp_path / 'a', _full)
    assert (tmp_path / 'a').read_bytes() == b'old' and os.listdir(tmp_path) == ['a']


def test_folders_are_made(tmp_path):
    assert why_invalid(save(tmp_path / 'x' / 'y' / 'a.pth')) is None
