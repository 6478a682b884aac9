select '{{ 'abc'[: var('organization_id')] }}' as a
