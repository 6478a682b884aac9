{#- An incremental strategy that is exact whatever changed in the past: the model computes all its rows anew, and only
    the rows that differ are written, in place. Afterwards the table holds what a full refresh would give, also where a
    group of rows has vanished, which delete+insert by key cannot see. Indexes, grants and readers are left alone.
    A row with a null equals none, so it is replaced each time; the result is the same. -#}
{% macro get_incremental_differences_sql(arg_dict) %}
    {%- set names = arg_dict['dest_columns'] | map(attribute='quoted') | list -%}

    delete from {{ arg_dict['target_relation'] }} as present
    where not exists (
        select from {{ arg_dict['temp_relation'] }} as computed
        where (present.{{ names | join(', present.') }}) = (computed.{{ names | join(', computed.') }})
    );

    insert into {{ arg_dict['target_relation'] }} ({{ names | join(', ') }})
    select {{ names | join(', ') }}
    from {{ arg_dict['temp_relation'] }} as computed
    where not exists (
        select from {{ arg_dict['target_relation'] }} as present
        where (present.{{ names | join(', present.') }}) = (computed.{{ names | join(', computed.') }})
    )
{% endmacro %}
