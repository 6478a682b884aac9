select {{ 1 if 'acme' in {'a': var('organization_slug')}.values() else 2 }} as a
