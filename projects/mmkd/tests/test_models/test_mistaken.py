"""A teacher that is wrong on purpose: about a share, always the same inputs, and sure of it."""

import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.datasets.drawn_table import DrawnTable
from mmkd.models.mistaken import MistakenNetwork
from mmkd.models.tabular import TabularMLP


def network(share, seed=0):
    torch.manual_seed(0)
    return MistakenNetwork(TabularMLP(8, (16,), num_classes=4), share, seed=seed)


ROWS = DrawnTable('train', 4000).rows


def test_wrong_about_a_share_with_every_other_class_and_by_the_excess():
    teacher = network(0.2)
    plain, found = teacher.network(numeric=ROWS).logits, teacher(numeric=ROWS).logits
    wrong = (plain != found).any(-1)
    assert abs(wrong.float().mean() - 0.2) < 0.02
    assert (plain.argmax(-1) != found.argmax(-1))[wrong].all()
    shift = (found.argmax(-1) - plain.argmax(-1))[wrong] % 4
    shares = torch.bincount(shift, minlength=4)[1:] / wrong.sum()
    assert (shares - 1 / 3).abs().max() < 0.06
    top = found.max(-1).values - plain.max(-1).values
    torch.testing.assert_close(top[wrong], torch.full_like(top[wrong], 3.0))


def test_the_same_answer_in_any_batch_and_another_choice_for_another_seed():
    teacher, other = network(0.5), network(0.5, seed=1)
    whole = teacher(numeric=ROWS[:64]).logits
    alone = torch.cat([teacher(numeric=row[None]).logits for row in ROWS[:64]])
    torch.testing.assert_close(whole, alone)
    assert (whole.argmax(-1) != other(numeric=ROWS[:64]).logits.argmax(-1)).any()


@pytest.mark.parametrize(('share', 'differs'), [(0.0, False), (1.0, True)])
def test_none_and_all(share, differs):
    teacher = network(share)
    plain, found = teacher.network(numeric=ROWS).logits, teacher(numeric=ROWS).logits
    assert ((plain.argmax(-1) != found.argmax(-1)) == differs).all()


def test_a_share_out_of_range_is_refused():
    with pytest.raises(UserError, match=r'share of MistakenNetwork must be in \[0, 1\], got 1.5'):
        network(1.5)
