select '{{ dbt.py_current_timestring() }}' as a
