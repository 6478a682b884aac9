"""Whether a series of measurements grows: Theil-Sen's slope and Mann-Kendall's test, which no outlier sways.

H. B. Mann, Nonparametric tests against trend, Econometrica 13 (1945); P. K. Sen, Estimates of the regression
coefficient based on Kendall's tau, JASA 63 (1968). Of ties, Kendall's correction is made.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from math import erfc, sqrt
from statistics import median


def slope(values: Sequence[float]) -> float:
    """The median of the slopes between all pairs, for one step of the series (Theil-Sen)."""
    return median((later - earlier) / (j - i) for (i, earlier), (j, later) in combinations(enumerate(values), 2))


def growth_probability(values: Sequence[float]) -> float:
    """The chance to see as much growth as this, or more, where there is none (Mann-Kendall, one-sided).

    A small one, below 0.01 say, means that the series grows; 1 where all values are equal.
    """
    count = len(values)
    concordance = sum((later > earlier) - (later < earlier) for earlier, later in combinations(values, 2))
    ties = sum(t * (t - 1) * (2 * t + 5) for t in Counter(values).values())
    variance = (count * (count - 1) * (2 * count + 5) - ties) / 18
    if not variance:
        return 1.0
    # One step towards the middle, as the sum has whole values only.
    z = (concordance - (concordance > 0) + (concordance < 0)) / sqrt(variance)
    return erfc(z / sqrt(2)) / 2
