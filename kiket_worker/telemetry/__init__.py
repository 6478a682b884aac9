"""What the worker tells of itself: logs, traces and metrics."""
