"""The dashboards' files: generated from their source, and complete in what Grafana and a reader need."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.source.__main__ import FOLDER, files
from tests.support.paths import ROOT

FILES = sorted(FOLDER.glob("*.json"))
PAGES: dict[str, dict[str, Any]] = {file.stem: json.loads(file.read_text()) for file in FILES}
RUNBOOKS = {file.stem for file in (ROOT / "runbooks").glob("*.md")}
TYPES = {"${datasource}": "prometheus", "${records}": "grafana-postgresql-datasource"}


def panels() -> Iterator[Any]:
    """Every panel but the headlines of rows."""
    for name, page in PAGES.items():
        for panel in page["panels"]:
            if panel["type"] != "row":
                yield pytest.param(panel, id=f"{name}: {panel['title']}")


def runbooks_of(panel: dict[str, Any]) -> list[str]:
    return [link["url"].removeprefix("${runbooks}/").removesuffix(".md") for link in panel.get("links", [])]


def test_files_equal_what_their_source_generates() -> None:
    """`make dashboards` writes them."""
    assert {file.name: file.read_text() for file in FILES} == files()


def test_uids_are_those_that_alerts_link_to() -> None:
    assert {page["uid"] for page in PAGES.values()} == {
        "flowbiz-overview",
        "flowbiz-providers",
        "flowbiz-keys-limits",
        "flowbiz-runtime",
    }


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_sdk_reads_the_file_as_a_dashboard(page: dict[str, Any]) -> None:
    register_default_plugins()
    read = Dashboard.from_json(page)
    assert read.uid == page["uid"]
    assert len(read.panels or []) == len(page["panels"])


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_panels_fill_lines_without_overlap(page: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in page["panels"]]
    assert len(ids) == len(set(ids))
    cells: dict[tuple[int, int], str] = {}
    for panel in page["panels"]:
        at = panel["gridPos"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell[0] < 24, panel["title"]
            assert cell not in cells, f"{panel['title']} overlaps {cells.get(cell)}"
            cells[cell] = panel["title"]
    assert len(cells) == 24 * len({y for _, y in cells}), "a line is not full"


@pytest.mark.parametrize("panel", list(panels()))
def test_panel_is_complete(panel: dict[str, Any]) -> None:
    """A unit, a description with what is normal, and a data source for the panel and for each query."""
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert " Normal: " in panel["description"]
    assert panel["description"].endswith(".")
    references = [target["refId"] for target in panel["targets"]]
    assert references
    assert len(references) == len(set(references))
    for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
        assert TYPES[source["uid"]] == source["type"]


@pytest.mark.parametrize("panel", list(panels()))
def test_panel_links_the_runbooks_that_it_names(panel: dict[str, Any]) -> None:
    named = re.search(r"Otherwise open: (.*)\.$", panel["description"])
    assert runbooks_of(panel) == (named[1].split(", ") if named else [])
    assert set(runbooks_of(panel)) <= RUNBOOKS


@pytest.mark.parametrize("panel", list(panels()))
def test_exemplars_are_of_latency_histograms(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        if target.get("exemplar"):
            assert "_bucket{" in target["expr"]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_variables_are_declared_and_used(page: dict[str, Any]) -> None:
    declared = {variable["name"] for variable in page["templating"]["list"]}
    text = json.dumps({**page, "templating": None})
    used = set(re.findall(r"\$\{?([a-z]\w*)", text)) - {"__rate_interval", "__timeFilter"}
    assert used == declared


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_deployments_are_marked_and_traces_linked(page: dict[str, Any]) -> None:
    assert any("platform_build_info" in annotation["expr"] for annotation in page["annotations"]["list"])
    assert any("${traces}" in link.get("url", "") for link in page["links"])


def test_address_of_the_runbooks_can_be_chosen() -> None:
    for text in files("https://git.example/runbooks").values():
        constant = next(each for each in json.loads(text)["templating"]["list"] if each["name"] == "runbooks")
        assert constant["query"] == constant["current"]["value"] == "https://git.example/runbooks"


def test_provisioned_sources_have_the_types_of_the_variables() -> None:
    sources = yaml.safe_load((FOLDER / "provisioning/datasources.yml").read_text())["datasources"]
    types = {source["uid"]: source["type"] for source in sources}
    wanted = {
        variable["query"]
        for page in PAGES.values()
        for variable in page["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert set(types.values()) == wanted
    metrics = next(source for source in sources if source["type"] == "prometheus")
    targets = metrics["jsonData"]["exemplarTraceIdDestinations"]
    assert [types[target["datasourceUid"]] for target in targets] == ["tempo"]
