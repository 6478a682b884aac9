-- The run that an idempotency key named the first time. Parameters: organization_id, idempotency_key.
-- Reads only; of two that both find nothing, the primary key refuses the later one's `record_request`.
select run_id from kiket_analytics.run_requests
where organization_id = %(organization_id)s and idempotency_key = %(idempotency_key)s
