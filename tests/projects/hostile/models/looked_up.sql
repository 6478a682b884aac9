select {{ {'acme': 1}.get(var('organization_slug'), 2) }} as a
