"""The ledger: the worker's own tables in the schema `kiket_analytics`, and the only truth about runs."""
