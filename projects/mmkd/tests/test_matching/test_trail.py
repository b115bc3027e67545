"""What a trail gives back is what was put in, from memory and from a file."""

import errno

import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.matching import trail
from mmkd.matching.trail import SMALL, Trail


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('size', [10, SMALL // 16])
def test_vectors_come_back(size, dtype):
    vectors = torch.randn(9, size, generator=torch.Generator().manual_seed(0)).to(dtype)
    kept = Trail(9, vectors[0])
    assert (kept._file is None) == (9 * vectors[0].nbytes <= SMALL)
    for number, each in enumerate(vectors):
        kept[number] = each
    for number in reversed(range(9)):
        found = kept[number]
        assert found.dtype == dtype and torch.equal(found, vectors[number])


def test_matching_from_a_file_is_that_from_memory(monkeypatch):
    from test_trajectory_matching import Case

    case = Case(8)
    wanted = case.match('adjoint')
    monkeypatch.setattr(trail, 'SMALL', 0)
    found = case.match('adjoint')
    for name in ('loss', 'images', 'labels', 'lr'):
        assert torch.equal(getattr(found, name), getattr(wanted, name))


def test_a_full_disk_says_so(monkeypatch):
    class Full:
        def seek(self, place):
            pass

        def write(self, content):
            raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(trail.tempfile, 'TemporaryFile', lambda buffering: Full())
    kept = Trail(3, torch.zeros(SMALL))
    with pytest.raises(UserError, match='No space left.*TMPDIR'):
        kept[0] = torch.zeros(SMALL)
