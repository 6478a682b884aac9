{% snapshot project_history %}
{{ config(unique_key='project_id', strategy='check', check_cols=['name']) }}
select project_id, name from {{ ref('stg_projects') }}
{% endsnapshot %}
