select '{{ var('organization_slug')[:2] }}' as a
