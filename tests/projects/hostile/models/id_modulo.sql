select {{ var('organization_id') % 16 }} as a
