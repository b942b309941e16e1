"""Write the JSON files: `make dashboards`, or `python -m dashboards.source --runbooks URL --output FOLDER`."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from dashboards.source import keys_limits, overview, providers, runtime
from dashboards.source.frame import RUNBOOKS, to_json

FOLDER = Path(__file__).resolve().parents[1]
PAGES = (overview.page, providers.page, keys_limits.page, runtime.page)


def files(runbooks: str = RUNBOOKS) -> Mapping[str, str]:
    """Return the text of each file by its name, with links to the runbooks at this URL."""
    pages = [page() for page in PAGES]
    return {f"{page.uid.removeprefix('flowbiz-')}.json": to_json(page.build(runbooks)) for page in pages}


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.source", description="Write the Grafana dashboards.")
    parser.add_argument("--runbooks", default=RUNBOOKS, help="the URL of the folder with the runbooks")
    parser.add_argument("--output", type=Path, default=FOLDER, help="the folder for the files")
    arguments = parser.parse_args()
    for name, text in files(arguments.runbooks.rstrip("/")).items():
        (arguments.output / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
