"""A yes of any rank is a yes of all."""

from mmdistill.core.rank_vote import RankVote
from mmdistill.testing.ranks import run_gloo


def vote(rank):
    """Rank 1 says yes to the first, nobody to the second, both to the third."""
    voting = RankVote()
    first = voting.any(rank == 1, False, True)
    voting.wait()
    return first, voting.smallest(5 - rank)


def test_two_ranks():
    assert run_gloo(vote, 2) == [((True, False, True), 4)] * 2


def test_alone():
    voting = RankVote()
    assert voting.any(True, 0) == (True, False) and voting.smallest(7) == 7
    voting.wait()
