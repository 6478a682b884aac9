select {{ is_acme(var('organization_slug')) }} as a
