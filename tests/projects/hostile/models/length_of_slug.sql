select {{ 1 if var('organization_slug') | length > 40 else 2 }} as a
