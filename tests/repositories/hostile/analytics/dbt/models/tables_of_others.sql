select nspname from pg_namespace where nspname like 'analytics_org_%'
