{% set n = graph.nodes.values() | selectattr('schema', 'equalto', 'analytics_org_acme') | list | length if execute else 0 %}select {{ n }} as a
