select
    weeks.project_id,
    weeks.week_begins_on,
    max(grades.least_issues) as least_issues
from {{ ref('team_weeks') }} as weeks
inner join {{ ref('grades') }} as grades on weeks.issues_completed >= grades.least_issues
group by weeks.project_id, weeks.week_begins_on
