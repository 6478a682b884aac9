select {{ modules.itertools.product([var('organization_slug')]) | list | length }} as a
