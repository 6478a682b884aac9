select {{ 1 if target.schema.startswith('analytics_org_a') else 2 }} as a
