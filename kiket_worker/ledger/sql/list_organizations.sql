-- Organisations, the next due first.
-- Parameters: those of `standing`, which is put before this statement; slug, or null for all that have settings. Reads only.
select *
from standing
where case when %(slug)s::text is null then has_settings else slug = %(slug)s end
order by due_at nulls last, slug
