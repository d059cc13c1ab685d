"""Every setting, every route and what the cache tells of itself is documented."""

import re

from main import OrfeasUnifiedServer
from settings import ROOT, VARIABLES, load_settings
from web.answers import CacheEntryAnswer, DiskStats


def test_every_setting_is_in_the_readme_with_its_default():
    readme = (ROOT / "README.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", readme, re.MULTILINE))
    assert rows == {variable.name: f"`{variable.default}`" if variable.default else "" for variable in VARIABLES}


def test_every_route_is_in_the_api_reference(tmp_path):
    app = OrfeasUnifiedServer(load_settings({"DATA_DIR": str(tmp_path)})).app
    documented = set(re.findall(r"`(GET|POST|PUT|DELETE) ([^`]+)`", (ROOT / "docs" / "api.md").read_text()))
    routes = {(method, rule.rule) for rule in app.url_map.iter_rules() for method in rule.methods - {"HEAD", "OPTIONS"}}
    assert routes == documented


def test_every_field_of_the_cache_s_tiers_and_entries_is_in_the_api_reference():
    page = (ROOT / "docs" / "api.md").read_text()
    cache = page[page.index("## Cache") : page.index("## State")]
    words = set(re.findall(r"\w+", cache))
    assert DiskStats.model_fields.keys() | CacheEntryAnswer.model_fields.keys() <= words


def test_the_links_between_documents_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target, heading in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text()):
            other = page.parent / target if target else page
            assert other.exists(), f"{page.name} → {target}"
            assert not heading or heading in headings(other), f"{page.name} → {target}#{heading}"


def headings(page):
    """As links name them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in found}
