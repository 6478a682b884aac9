select {{ 1 if (var('organization_slug') | join('.')) == 'a.c.m.e' else 2 }} as a
