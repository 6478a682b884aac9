select '{{ [var('organization_slug'), 'm'] | sort | first }}' as a
