-- Let an idempotency key name a run. Parameters: organization_id, idempotency_key, run_id.
-- Concurrent requests with one key meet at the primary key: the later one waits, is refused, and looks again.
insert into kiket_analytics.run_requests (organization_id, idempotency_key, run_id)
values (%(organization_id)s, %(idempotency_key)s, %(run_id)s)
