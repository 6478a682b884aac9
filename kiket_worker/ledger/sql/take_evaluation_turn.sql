-- Take the turn at evaluating all changelogs, if nobody has begun within the interval; give a row if it was taken.
-- Parameter: interval_hours. May run concurrently: the second waits for the first one's row, sees what it wrote, and
-- gets nothing. Time is the database's.
update kiket_analytics.changelog_turn
set begun_at = now()
where begun_at is null or begun_at + make_interval(hours => %(interval_hours)s) <= now()
returning begun_at
