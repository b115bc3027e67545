"""A drawn table: the same clouds for all splits, other rows, and the stated spread."""

import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.datasets.drawn_table import SPLITS, DrawnTable


def test_splits_share_clouds_and_no_row():
    tables = [DrawnTable(split, 500, seed=3) for split in SPLITS]
    assert all(torch.equal(each.centres, tables[0].centres) for each in tables)
    rows = torch.cat([each.rows for each in tables])
    assert len(rows.unique(dim=0)) == 1500
    other = DrawnTable('train', 500, seed=4)
    assert not torch.equal(other.centres, tables[0].centres)
    again = DrawnTable('train', 500, seed=3)
    assert torch.equal(again.rows, tables[0].rows) and torch.equal(again.labels, tables[0].labels)


def test_rows_lie_around_their_centres():
    table = DrawnTable('test', 20000, num_features=5, num_classes=3, spread=0.7)
    gaps = table.rows - table.centres[table.labels]
    assert gaps.mean(0).abs().max() < 0.03
    torch.testing.assert_close(gaps.std(0), torch.full((5,), 0.7), atol=0.02, rtol=0)
    assert set(table.labels.tolist()) == {0, 1, 2}
    sample = table[7]
    assert torch.equal(sample['inputs']['numeric'], table.rows[7])
    assert sample['labels'] == int(table.labels[7]) and len(table) == 20000


def test_unknown_splits_and_no_rows_are_refused():
    with pytest.raises(UserError, match="one of .*'teacher'.*, got 'val'"):
        DrawnTable('val', 5)
    with pytest.raises(UserError, match='at least 1, got 0'):
        DrawnTable('train', 0)
