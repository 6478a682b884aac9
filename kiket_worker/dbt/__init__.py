"""dbt as the worker runs it: bundle, engines, results."""
