-- The platform's tables, as far as analytics reads them: what a real Kiket database already has in `public`.
-- Only sample data and tests create them; kiket-worker never alters them in a real installation.
-- Takes no parameters. Run once in an empty database.

create table public.organizations (
    id bigint primary key,
    slug text not null unique,
    name text not null,
    plan text not null check (plan in ('starter', 'team', 'business', 'enterprise')),
    created_at timestamptz not null
);

create table public.users (
    id bigint primary key,
    organization_id bigint not null references public.organizations (id),
    name text not null,
    email text not null,
    role text not null check (role in ('owner', 'admin', 'member', 'guest')),
    active boolean not null,
    created_at timestamptz not null
);

create table public.projects (
    id bigint primary key,
    organization_id bigint not null references public.organizations (id),
    key text not null,
    name text not null,
    archived boolean not null,
    created_at timestamptz not null
);

create table public.issues (
    id bigint primary key,
    organization_id bigint not null references public.organizations (id),
    project_id bigint not null references public.projects (id),
    parent_id bigint references public.issues (id),
    assignee_id bigint references public.users (id),
    issue_type text not null check (issue_type in ('epic', 'story', 'task', 'bug')),
    title text not null,
    status text not null check (
        status in ('backlog', 'todo', 'in_progress', 'in_review', 'blocked', 'done', 'cancelled')
    ),
    priority text not null check (priority in ('low', 'medium', 'high', 'urgent')),
    story_points integer,
    due_on date,
    created_at timestamptz not null,
    started_at timestamptz,
    completed_at timestamptz,
    updated_at timestamptz not null
);

create table public.releases (
    id bigint primary key,
    organization_id bigint not null references public.organizations (id),
    project_id bigint not null references public.projects (id),
    version text not null,
    changelog_draft text,
    changelog text,
    released_at timestamptz,
    created_at timestamptz not null
);

-- Whose a comment is, only its issue tells.
create table public.comments (
    id bigint primary key,
    issue_id bigint not null references public.issues (id),
    author_id bigint not null references public.users (id),
    body text not null,
    created_at timestamptz not null
);

create index users_by_organization on public.users (organization_id);
create index projects_by_organization on public.projects (organization_id);
create index issues_by_organization on public.issues (organization_id, completed_at);
create index issues_by_parent on public.issues (parent_id);
create index comments_by_issue on public.comments (issue_id);
create index releases_by_organization on public.releases (organization_id);
