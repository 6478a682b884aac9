select {{ 1 if dbt.string_literal(var('organization_slug')) == "'acme'" else 2 }} as a
