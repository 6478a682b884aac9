select {{ 1 if (var('organization_slug') | trim('p')) == 'acme' else 2 }} as a
