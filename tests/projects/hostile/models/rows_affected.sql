{% if execute %}{% call statement('x', fetch_result=True) %}select 1 as a{% endcall %}{% set n = load_result('x').response.rows_affected %}{% endif %}select {{ n or 0 }} as a
