-- A row if a token opens something now. Parameters: token_id. Reads only.
select token.token_id
from kiket_analytics.tokens as token
left join public.organizations as organization on organization.id = token.organization_id
where token.token_id = %(token_id)s
    and token.revoked_at is null
    and token.expires_at > now()
    and (token.scope = 'ops' or organization.id is not null)
