select 1 as one where pg_terminate_backend(1)
