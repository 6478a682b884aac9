"""kiket-worker keeps each organisation's analytics schema fresh: ticker, queue, workers, ledger and artifacts."""

from importlib.metadata import version

__version__ = version("kiket-worker")
