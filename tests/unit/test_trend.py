"""The test for growth tells growth from noise."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.trend import growth_probability, slope

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=30)


@given(st.integers(3, 40), st.floats(-100, 100))
def test_a_line_has_its_own_slope(count: int, rise: float) -> None:
    assert slope([7 + rise * step for step in range(count)]) == pytest.approx(rise, abs=1e-9)


def test_one_outlier_changes_no_slope() -> None:
    values = [100.0] * 20
    values[10] = 1e9
    assert slope(values) == 0


def test_what_does_not_change_does_not_grow() -> None:
    assert growth_probability([5.0] * 10) == 1


def test_growth_is_seen_through_noise_and_noise_is_not_growth() -> None:
    random = Random(1)
    noise = [random.gauss(0, 10) for _ in range(38)]
    assert growth_probability(noise) > 0.01
    assert growth_probability([value + 2 * step for step, value in enumerate(noise)]) < 0.001


@given(VALUES)
def test_shrinking_is_the_mirror_of_growth(values: list[float]) -> None:
    mirrored = growth_probability([-value for value in values])
    assert growth_probability(values) + mirrored >= 1 - 1e-9
    assert slope([-value for value in values]) == pytest.approx(-slope(values))


def test_a_value_from_the_literature() -> None:
    """S = 8 of five values that grow but for one pair; the variance is 16 2/3, so z is 7 / 4.08."""
    assert growth_probability([1, 2, 4, 3, 5]) == pytest.approx(0.0432, abs=0.0005)
