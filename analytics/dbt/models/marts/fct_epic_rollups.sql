{{ config(indexes=[{'columns': ['epic_id'], 'unique': true}, {'columns': ['project_id', 'guardrail_status']}]) }}

{%- set stalled_after_days = 14 %}

with epics as (

    select
        issue_id as epic_id,
        project_id,
        title as epic_title,
        status as epic_status,
        status in ('done', 'cancelled') as is_closed,
        due_on,
        updated_at
    from {{ ref('stg_issues') }}
    where issue_type = 'epic'

),

children as (

    select
        parent_id as epic_id,
        count(*) as child_count,
        count(*) filter (where status = 'done') as done_child_count,
        count(*) filter (where status = 'blocked') as blocked_child_count,
        count(*) filter (where status <> 'done' and due_on < {{ current_day() }}) as overdue_child_count,
        sum(story_points) as total_story_points,
        sum(story_points) filter (where status = 'done') as completed_story_points,
        max(updated_at) as updated_at
    from {{ ref('stg_issues') }}
    where
        parent_id is not null
        and status <> 'cancelled'
    group by parent_id

),

measured as (

    select
        epics.project_id,
        epics.epic_id,
        epics.epic_title,
        epics.epic_status,
        epics.is_closed,
        epics.due_on,
        coalesce(children.child_count, 0) as child_count,
        coalesce(children.done_child_count, 0) as done_child_count,
        coalesce(children.blocked_child_count, 0) as blocked_child_count,
        coalesce(children.overdue_child_count, 0) as overdue_child_count,
        coalesce(children.total_story_points, 0) as total_story_points,
        coalesce(children.completed_story_points, 0) as completed_story_points,
        {{ current_day() }}
        - (greatest(epics.updated_at, children.updated_at) at time zone 'utc')::date as days_unchanged
    from epics
    left join children on epics.epic_id = children.epic_id

),

judged as (

    select
        epic_id,
        case
            when is_closed then 'on_track'
            when child_count = 0 then 'unscoped'
            when overdue_child_count > 0 or due_on < {{ current_day() }} then 'overdue'
            when blocked_child_count > 0 then 'blocked'
            when done_child_count < child_count and days_unchanged > {{ stalled_after_days }} then 'stalled'
            else 'on_track'
        end as guardrail_status
    from measured

),

counted as (

    select
        measured.epic_id,
        case judged.guardrail_status
            when 'overdue' then measured.overdue_child_count
            when 'blocked' then measured.blocked_child_count
            when 'stalled' then measured.child_count - measured.done_child_count
            else measured.done_child_count
        end as counted_children,
        case judged.guardrail_status
            when 'overdue' then 'overdue'
            when 'blocked' then 'blocked'
            when 'stalled' then 'open'
            else 'done'
        end as counted_as
    from measured
    inner join judged on measured.epic_id = judged.epic_id

)

select
    measured.project_id,
    measured.epic_id,
    measured.epic_title,
    measured.epic_status,
    measured.child_count,
    measured.total_story_points,
    measured.completed_story_points,
    (case
        when measured.total_story_points > 0
            then round(measured.completed_story_points::numeric / measured.total_story_points, 4)
        when measured.child_count > 0
            then round(measured.done_child_count::numeric / measured.child_count, 4)
        else 0
    end)::numeric(5, 4) as completion_ratio,
    measured.overdue_child_count,
    measured.blocked_child_count,
    judged.guardrail_status,
    case
        when measured.is_closed
            then 'The epic is ' || measured.epic_status
        when judged.guardrail_status = 'unscoped'
            then 'The epic has no child issues'
        when judged.guardrail_status = 'overdue' and measured.overdue_child_count = 0
            then 'The epic was due on ' || to_char(measured.due_on, 'YYYY-MM-DD')
        else
            counted.counted_children || ' of ' || measured.child_count
            || case when measured.child_count = 1 then ' child issue ' else ' child issues ' end
            || case when 1 in (counted.counted_children, measured.child_count) then 'is ' else 'are ' end
            || counted.counted_as
            || case
                when judged.guardrail_status = 'stalled'
                    then ', and nothing has changed for ' || measured.days_unchanged || ' days'
                else ''
            end
    end as guardrail_reason
from measured
inner join judged on measured.epic_id = judged.epic_id
inner join counted on measured.epic_id = counted.epic_id
