"""What the runbook says of costs can be asked of a ledger."""

import re
from pathlib import Path

import pytest

from tests.faults.site import Site

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_statement_of_the_runbook_gives_what_an_organisation_took(site: Site) -> None:
    (statement,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text().split("\n### Costs\n")[1], re.DOTALL)
    site.start_cluster(workers=1)
    site.ask("acme")
    site.until_succeeded("acme")
    (row,) = site.rows(statement)
    recorded = site.rows("select sum(duration_seconds) as seconds from kiket_analytics.run_models")
    assert row["refreshes"] == 1
    assert row["model_seconds"] == pytest.approx(recorded[0]["seconds"])
    site.stop()
