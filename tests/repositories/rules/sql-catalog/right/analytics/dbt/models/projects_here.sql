select project_name from {{ ref('dim_projects') }}
