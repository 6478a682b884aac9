"""The replay engine: dbt is recorded once for a bundle, proven the same for every tenant, and replayed for each.

`probe` and `recorder` record dbt, `inspection` watches its Jinja meanwhile; `proof` compares two recordings and makes a
`compiled` bundle of them, in the process of `prover`; `engine` replays it in one transaction, on the `relations` of a
tenant, and writes dbt's own `documents`.
"""
