"""Dashboards, queries and alerts of a definition repository: read, turned into SQL, checked against relations."""
