select *
from {{ ref('team_weeks') }}
where issues_completed < 0
