select {{ [var('organization_slug')].count('acme') }} as a
