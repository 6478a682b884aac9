-- Tokens, newest first, without their digests. Takes no parameters. Reads only.
select
    token.token_id,
    token.name,
    token.scope,
    token.organization_id,
    organization.slug as organization_slug,
    token.created_at,
    token.expires_at,
    token.revoked_at,
    token.last_used_at,
    case
        when token.revoked_at is not null then 'revoked'
        when token.expires_at <= now() then 'expired'
        else 'valid'
    end as state
from kiket_analytics.tokens as token
left join public.organizations as organization on organization.id = token.organization_id
order by token.created_at desc, token.token_id desc
