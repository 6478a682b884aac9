select 'ä' as a
