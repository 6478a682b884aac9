"""The rules for Prometheus as its own tool reads them, and what they say in each case of their unit tests."""

import re
import subprocess
from pathlib import Path

import yaml

from tests.support import alerts, grafana

TESTS = alerts.FOLDER / "prometheus-rules.test.yaml"


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        ["promtool", *arguments], cwd=alerts.FOLDER, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_reads_every_rule() -> None:
    assert f"SUCCESS: {len(alerts.prometheus())} rules found" in promtool("check", "rules", alerts.PROMETHEUS.name)


def test_prometheus_reads_every_query_of_the_dashboard(tmp_path: Path) -> None:
    queries = grafana.expressions()
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(queries)} rules found" in promtool("check", "rules", str(tmp_path / "rules.yaml"))


def test_the_rules_say_what_their_unit_tests_expect() -> None:
    assert "SUCCESS" in promtool("test", "rules", TESTS.name)


def test_each_rule_has_a_case_in_which_it_fires() -> None:
    expected = {
        name
        for case in yaml.safe_load(TESTS.read_text())["tests"]
        for query in case.get("promql_expr_test", [])
        for sample in query["exp_samples"]
        for name in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    assert expected == {alert.name for alert in alerts.prometheus()}
