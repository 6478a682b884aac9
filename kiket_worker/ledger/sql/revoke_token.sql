-- Revoke a token; give a row if there is such a token. Parameters: token_id. Revoked again, the first time stays.
update kiket_analytics.tokens
set revoked_at = coalesce(revoked_at, now())
where token_id = %(token_id)s
returning token_id
