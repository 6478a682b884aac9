select {{ 1 if var('organization_slug') == 'acme' else 2 }} as a
