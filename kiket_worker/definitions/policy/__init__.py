"""What overlays may say, judged on parsed Jinja, SQL and YAML before anything of it is run.

Imported where definitions are examined only, in a process with limits: it brings parts of dbt along.
"""
