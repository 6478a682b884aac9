select '{{ var('organization_slug') | upper }}' as a
