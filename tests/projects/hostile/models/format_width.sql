select '{{ '{:>30}'.format(var('organization_slug')) }}' as a
