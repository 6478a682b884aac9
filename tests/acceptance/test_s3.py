"""A refresh whose artifacts go to S3, from the command line to the bucket."""

import os
from pathlib import Path
from typing import Any

from kiket_worker.artifacts.reading import faults
from kiket_worker.artifacts.store import open_store


def test_a_refresh_leaves_complete_artifacts_in_the_bucket(
    installation: Any, quick_dbt: Path, s3_bucket: str, sample_database: Any
) -> None:
    url = f"s3://{s3_bucket}/acceptance"
    access = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    result = installation.run(
        *("refresh", "acme", "--wait", "--json"), ARTIFACTS_URL=url, KIKET_DBT_EXECUTABLE=str(quick_dbt), **access
    )
    assert result.code == 0, result.err
    run = result.document
    assert (run["status"], run["error"]) == ("succeeded", None)
    assert run["artifacts"] == f"{url}/acme/{run['run_id']}/1"
    assert list(faults(open_store(url), f"acme/{run['run_id']}/1")) == []
    (usage,) = sample_database.rows("select count(*) as events from kiket_analytics.usage_events")
    assert usage["events"] == len(run["models"]) == 2


def test_a_bucket_that_is_not_there_fails_the_run_and_bills_nothing(
    installation: Any, quick_dbt: Path, s3_bucket: str, sample_database: Any
) -> None:
    access = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    result = installation.run(
        *("refresh", "acme", "--wait", "--json"),
        ARTIFACTS_URL="s3://kiket-nowhere/acceptance",
        KIKET_DBT_EXECUTABLE=str(quick_dbt),
        **access,
    )
    assert result.code == 1
    run = result.document
    assert (run["status"], run["error"]["kind"]) == ("failed", "artifacts_bucket_missing")
    assert "kiket-nowhere" in run["error"]["message"]
    assert sample_database.rows("select from kiket_analytics.usage_events") == []
