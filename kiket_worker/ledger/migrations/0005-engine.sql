-- depends: 0004-tenants
-- An organisation may have another engine than the installation, to find out what is wrong with one.
-- Locks: analytics_settings exclusively, for as long as a catalog row takes to write.
alter table kiket_analytics.analytics_settings add column engine text;
alter table kiket_analytics.analytics_settings
    add constraint analytics_settings_engine check (engine in ('replay', 'executable'));
