"""Agreement: published worked examples, derived by hand, and laws."""

import numpy as np
import pytest

from mmdistill.core.errors import UserError
from mmkd.evaluation.frames.agreement import krippendorff_alpha, randolph_kappa

N = None
FOUR = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
    [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, float('nan')],
]
"""Ratings of Krippendorff, Computing Krippendorff's Alpha-Reliability (2011)."""


def test_nominal_alpha():
    """Published: 0.743.

    The last unit has one rating. The others have 3 + 8 * 4 + 3 + 2 = 40, of the values 1 to 5 there
    are 9, 13, 10, 5 and 3. Ordered pairs that differ, over raters less one: unit 2 has
    6 / 3, unit 6 12 / 3, unit 8 6 / 3, 8 in all. By chance there are
    (40 ** 2 - 81 - 169 - 100 - 25 - 9) / 39 = 1216 / 39. So alpha is 1 - 8 * 39 / 1216.
    """
    assert krippendorff_alpha(FOUR) == pytest.approx(1 - 312 / 1216, abs=1e-12)
    assert krippendorff_alpha(FOUR) == pytest.approx(0.743, abs=5e-4)


def test_ordinal_alpha():
    """Published: 0.815.

    Middles of the values' ranges are 4.5, 15.5, 27, 34.5 and 38.5; squared differences of them are
    121 (of 1 and 2), 506.25, 900, 1156, 132.25 (of 2 and 3), 361, 529, 56.25, 132.25 and 16.
    Observed: unit 2 has 2 * 132.25, unit 8 2 * 121, unit 6 two thirds of
    121 + 506.25 + 900 + 132.25 + 361 + 56.25 = 2076.75: 1891 in all. By chance: twice the sum of
    products of two counts and their difference, 2 * 199740, over 39.
    """
    assert krippendorff_alpha(FOUR, 'ordinal') == pytest.approx(1 - 1891 * 39 / 399480, abs=1e-12)
    assert krippendorff_alpha(FOUR, 'ordinal') == pytest.approx(0.815, abs=5e-4)


FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
"""Counts of five categories by 14 raters of ten units, the usual example of Fleiss' kappa."""


def test_free_marginal_kappa():
    """Published share of agreeing pairs: 0.378, so kappa is (0.378 - 0.2) / 0.8 = 0.222.

    Ordered agreeing pairs of the units are 182, 46, 56, 80, 60, 84, 44, 32, 52 and 52, 688 in all,
    of 10 * 14 * 13 = 1820.
    """
    units = [np.repeat(np.arange(5), row).tolist() for row in FLEISS]
    ratings = list(zip(*units, strict=True))
    wanted = (688 / 1820 - 1 / 5) / (1 - 1 / 5)
    assert randolph_kappa(ratings, 5) == pytest.approx(wanted, abs=1e-12)
    assert randolph_kappa(ratings, 5) == pytest.approx(0.2225, abs=5e-4)


def test_free_marginal_kappa_with_missing_ratings():
    """Two of three pairs agree with two raters, one third of them in the last unit: 7 / 12."""
    ratings = [['a', 'a', 'b', 'a', N], ['a', 'a', 'a', 'a', 'b'], [N, N, N, 'b', N]]
    assert randolph_kappa(ratings, 2) == pytest.approx(((1 + 1 + 0 + 1 / 3) / 4 - 0.5) / 0.5)
    assert randolph_kappa(ratings, 3) == pytest.approx((7 / 12 - 1 / 3) / (2 / 3))


@pytest.mark.parametrize('level', ['nominal', 'ordinal'])
def test_laws_of_alpha(level):
    rng = np.random.default_rng(0)
    ratings = rng.integers(4, size=(3, 900))
    # chance, perfect agreement, order of raters and units, names of values
    assert abs(krippendorff_alpha(ratings, level)) < 0.05
    assert krippendorff_alpha([[0, 1, 2], [0, 1, 2]], level) == 1
    few = ratings[:, :20]
    wanted = krippendorff_alpha(few, level)
    assert krippendorff_alpha(few[::-1, ::-1], level) == pytest.approx(wanted)
    assert krippendorff_alpha(10 * few + 3, level) == pytest.approx(wanted)
    # always against each other
    assert krippendorff_alpha([[0, 1] * 50, [1, 0] * 50], level) < -0.9


def test_order_matters_to_ordinal_values_alone():
    near, far = ([[1, 2, 3, 4, 1], [1, 2, 3, 4, each]] for each in (2, 4))
    assert krippendorff_alpha(near, 'ordinal') > krippendorff_alpha(far, 'ordinal')
    assert krippendorff_alpha(near) == pytest.approx(krippendorff_alpha(far))


def test_perfect_and_worst_kappa():
    assert randolph_kappa([[0, 1, 1], [0, 1, 1]], 2) == 1
    assert randolph_kappa([[0, 0], [0, 0]], 2) == 1
    assert randolph_kappa([[0, 1], [1, 0]], 2) == -1


def test_errors():
    with pytest.raises(UserError, match='one value per unit'):
        krippendorff_alpha([[1, 2], [1]])
    with pytest.raises(UserError, match='no unit has two'):
        randolph_kappa([[1, N], [N, 2]], 2)
    with pytest.raises(UserError, match='not defined: all ratings'):
        krippendorff_alpha([[1, 1], [1, 1]])
    with pytest.raises(UserError, match="'ratio' is not known"):
        krippendorff_alpha(FOUR, 'ratio')
    with pytest.raises(UserError, match='4 categories for 5'):
        randolph_kappa(FOUR, 4)
