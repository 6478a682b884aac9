"""dbt's docs as one static page, taken apart: what every page has, and the holes for what is the tenant's own.

`dbt docs generate --static` writes its site into one page with a manifest and a catalog inside. Four fifths of it are
the same for every tenant and run, so they are kept once, as a page with holes; and the holes are filled with what the
run leaves anyway.
"""

from pathlib import Path

from kiket_worker.artifacts.assembly import Page
from kiket_worker.errors import DbtFailed

PAGE_NAME = "docs/index.html"


def take_apart(folder: Path) -> Page:
    """The page that dbt has written into a folder, with its manifest and catalog beside it. Raises `DbtFailed`."""
    names = ("manifest.json", "catalog.json")
    try:
        page = (folder / "static_index.html").read_text(encoding="utf-8")
        contents = {name: (folder / name).read_text(encoding="utf-8") for name in names}
    except OSError as fault:
        raise DbtFailed(f"dbt docs generate left no {Path(fault.filename).name}") from None
    holes = {name: f'"kiket artifact {name}"' for name in names}
    for name, content in contents.items():
        if page.count(content) != 1:
            raise DbtFailed(f"the page that dbt docs generate wrote does not have its {name} in it once")
        page = page.replace(content, holes[name])
    shell = folder / "shell.html"
    shell.write_text(page, encoding="utf-8")
    return Page(shell, holes)
