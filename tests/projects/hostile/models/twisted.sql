select {{ (var('organization_id') | string | reverse | int) > 5 }} as a
