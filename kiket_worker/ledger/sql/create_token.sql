-- Store a token's digest; give the token. Parameters: digest, name, scope, organization_id (null for ops), expires_days.
-- One new row.
insert into kiket_analytics.tokens (digest, name, scope, organization_id, expires_at)
values (
    %(digest)s, %(name)s, %(scope)s, %(organization_id)s, now() + make_interval(days => %(expires_days)s)
)
returning token_id, name, scope, organization_id, created_at, expires_at, revoked_at, last_used_at
