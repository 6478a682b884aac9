{% set l = [] %}{% do l.extend(var('organization_slug')) %}select {{ 1 if l | length > 30 else 2 }} as a
