-- The token of a digest, if it opens anything now; no row if it is unknown, revoked, expired, or of an organisation that
-- is gone. Parameters: digest. Writes down that it was used, every five minutes at most, so that requests with one token
-- do not queue for its row.
with used as (
    update kiket_analytics.tokens
    set last_used_at = now()
    where digest = %(digest)s
        and revoked_at is null
        and expires_at > now()
        and (last_used_at is null or last_used_at < now() - interval '5 minutes')
)
select token.token_id, token.name, token.organization_id, organization.slug as organization_slug
from kiket_analytics.tokens as token
left join public.organizations as organization on organization.id = token.organization_id
where token.digest = %(digest)s
    and token.revoked_at is null
    and token.expires_at > now()
    and (token.scope = 'ops' or organization.id is not null)
