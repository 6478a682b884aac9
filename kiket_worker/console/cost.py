"""What usage costs."""

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal

_PLACES = Decimal("0.0001")


def cents_of(quantity: Decimal, metric: str, prices: Mapping[str, Decimal]) -> float | None:
    """The estimated cost in cents, to a ten-thousandth; None for a metric without a price."""
    price = prices.get(metric)
    return None if price is None else float((quantity * price).quantize(_PLACES, ROUND_HALF_EVEN))
