{% set text %}org {{ var('organization_slug') }}{% endset %}select {{ 1 if text == 'org acme' else 2 }} as a
