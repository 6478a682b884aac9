"""Files that are shipped beside the code: inside the installed package, or in the checkout around it."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """Where a file or folder of the project is that the package brings along, as `analytics/dbt`."""
    installed, checkout = _PACKAGE / name, _PACKAGE.parent / name
    return installed if installed.exists() else checkout
