select {{ {var('organization_slug'): 1}.get('acme', 2) }} as a
