-- Make a version the current one of an organisation; give it, or no row where another one came in between.
-- Parameters: the columns' names. Of two that were prepared on the same version, the later waits at the primary key for
-- the first's transaction, and then finds its number taken.
insert into kiket_analytics.definition_versions (
    organization_id, version, overlays, name, author, source_commit, rolled_back_to, bundle_digest
)
values (
    %(organization_id)s, %(version)s, %(overlays)s, %(name)s, %(author)s, %(source_commit)s, %(rolled_back_to)s,
    %(bundle_digest)s
)
on conflict (organization_id, version) do nothing
returning *
