select {{ 1 if modules.re.match('acme', var('organization_slug')) else 2 }} as a
