{{ config(materialized='table', indexes=[{'columns': ['issue_id'], 'unique': true}, {'columns': ['status', 'project_id']}]) }}
-- a comment with a ; in it
select issue_id, status, project_id, title || ' -- not; a comment' as title /* nor /* this; */ */
from {{ ref('eph_open') }}
