select 1 as one
{% if is_incremental() %}
where true
{% endif %}
