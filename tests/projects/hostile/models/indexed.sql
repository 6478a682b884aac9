{% set known = {'acme': 1} %}select {{ known[var('organization_slug')] or 2 }} as a
