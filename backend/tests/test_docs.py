"""Every setting and every route is documented."""

import re

from main import OrfeasUnifiedServer
from settings import ROOT, VARIABLES, load_settings


def test_every_setting_is_in_the_readme_with_its_default():
    readme = (ROOT / "README.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", readme, re.MULTILINE))
    assert rows == {variable.name: f"`{variable.default}`" if variable.default else "" for variable in VARIABLES}


def test_every_route_is_in_the_api_reference(tmp_path):
    app = OrfeasUnifiedServer(load_settings({"DATA_DIR": str(tmp_path)})).app
    documented = set(re.findall(r"`(GET|POST|PUT|DELETE) ([^`]+)`", (ROOT / "docs" / "api.md").read_text()))
    routes = {(method, rule.rule) for rule in app.url_map.iter_rules() for method in rule.methods - {"HEAD", "OPTIONS"}}
    assert routes == documented


def test_the_links_between_documents_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} → {target}"
