"""The demo's report as a page: what organisations and models say is text in it."""

from pathlib import Path

from kiket_worker.dev.report import OrganizationReport, write_report


def test_names_and_faults_are_text(tmp_path: Path) -> None:
    organization = OrganizationReport(
        slug="acme",
        name="<b>Acme</b> & Sons",
        plan="team",
        status="succeeded",
        models=12,
        usage_events=12,
        duration_seconds=1.5,
        weeks=[],
    )
    page = write_report(tmp_path / "report.html", [organization], ["column <i>goal</i> does not exist"]).read_text()
    assert "&lt;b&gt;Acme&lt;/b&gt; &amp; Sons" in page
    assert "column &lt;i&gt;goal&lt;/i&gt; does not exist" in page
