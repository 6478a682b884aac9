select project_id, count(*) as issues
from public.issues
group by project_id
