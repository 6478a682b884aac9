-- depends: 0008-definitions
-- Evaluations of releases' changelogs, and the row that tickers take turns at.
-- Locks: only objects that this migration creates; nothing existing is locked.

create table kiket_analytics.changelog_evaluations (
    evaluation_id uuid primary key default kiket_analytics.uuid_v7(),
    -- No foreign keys to the platform's tables: they would put triggers on tables that the worker never alters.
    release_id bigint not null,
    organization_id bigint not null,
    project_id bigint not null,
    evaluator text not null check (evaluator in ('draft_generation')),
    -- Of both texts and of the version of the metrics' definitions.
    content_digest text not null check (content_digest ~ '^[0-9a-f]{64}$'),
    metrics jsonb not null check (jsonb_typeof(metrics) = 'object'),
    summary text not null check (summary <> ''),
    generated_at timestamptz not null default now(),
    -- However many evaluate at once, and whenever one is killed: the same texts have one evaluation.
    constraint changelog_evaluations_once unique (release_id, evaluator, content_digest)
);
create index changelog_evaluations_newest on kiket_analytics.changelog_evaluations (generated_at desc, evaluation_id);
create index changelog_evaluations_newest_of_organization
    on kiket_analytics.changelog_evaluations (organization_id, generated_at desc, evaluation_id);

-- The single row that says when a ticker last began to evaluate: whoever changes it has the turn.
create table kiket_analytics.changelog_turn (
    only_row boolean primary key default true check (only_row),
    begun_at timestamptz
);
insert into kiket_analytics.changelog_turn default values;
