"""The description of the API says what the server does: every route, field, status and error, and no other."""

import base64
import copy
import html
import re

import jsonschema_rs
import pytest
from live_server import draw, encode, fresh_png, scripted_server
from schemathesis.specs.openapi.definitions import OPENAPI_31
from support.desk import open_desk

from picture import VIEWS
from settings import ROOT
from web.openapi import document, routes
from web.operations import Operation
from web.reference import marked, page_of
from web.responses import STATUS
from web.schemas import UploadForm

NEVER_NORMAL = {"internal", "storage"}
"""Faults: no route promises them."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with open_desk(tmp_path_factory.mktemp("described")) as desk:
        yield desk


@pytest.fixture(scope="module")
def described(desk):
    return desk.client.get("/api/openapi.json").json


def operations(described):
    return {(method.upper(), path): each for path, item in described["paths"].items() for method, each in item.items()}


def walk(value):
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(each)


# ── the document itself ──────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_openapi_3_1(described):
    jsonschema_rs.Draft202012Validator(OPENAPI_31).validate(described)
    assert described["openapi"].startswith("3.1.")
    for schema in described["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_every_reference_leads_somewhere_and_every_model_is_used(described):
    named = {each["$ref"] for each in walk(described) if "$ref" in each}
    assert named == {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}


def test_no_schema_uses_a_word_that_json_schema_does_not_know(described):
    """pydantic writes `ge` for a limit that it cannot place: then nobody learns of it."""
    for schema in walk(described["components"]["schemas"]):
        assert not {"ge", "le", "gt", "lt"} & {name for name, value in schema.items() if not isinstance(value, dict)}


def test_exactly_the_routes_of_the_server_are_described(desk, described):
    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in desk.app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert operations(described).keys() == served


def test_every_route_notes_what_it_takes(desk):
    for view in desk.app.view_functions.values():
        assert isinstance(view.operation, Operation), view


def test_every_operation_has_a_name_a_summary_and_its_path_parameters(described):
    found = operations(described)
    names = [each["operationId"] for each in found.values()]
    assert len(set(names)) == len(names)
    for (_, path), each in found.items():
        assert each["summary"].endswith(".")
        assert set(each["tags"]) <= {tag["name"] for tag in described["tags"]}
        parameters = [each["name"] for each in each.get("parameters", ()) if each["in"] == "path"]
        assert parameters == re.findall(r"{(\w+)}", path)


def test_every_code_is_described_at_its_status_and_no_fault_is_promised(described):
    promised = set()
    for each in operations(described).values():
        for status, response in each["responses"].items():
            narrowed = response.get("content", {}).get("application/json", {}).get("schema", {}).get("allOf")
            if narrowed:
                codes = set(narrowed[1]["properties"]["code"]["enum"])
                assert {STATUS[code] for code in codes} == {int(status)}
                promised |= codes
    assert promised == STATUS.keys() - NEVER_NORMAL
    assert described["components"]["schemas"]["ErrorAnswer"]["properties"]["code"]["enum"] == sorted(STATUS)


def test_the_guards_refusals_stand_where_they_can_happen(described):
    found = operations(described)
    for (method, path), each in found.items():
        codes = str(each["responses"])
        assert "forbidden_host" in codes
        assert ("forbidden_origin" in codes) == (method != "GET")
        is_open = path in ("/api/health", "/api/ready", "/health", "/")
        assert ("unauthorized" in codes) == bool(each["security"]) == (not is_open)
        assert ("rate_limited" in codes) == (not is_open and "status/" not in path)


def test_the_limits_that_the_page_reads_are_there(desk):
    request = desk.client.get("/api/models-info").json["request"]
    quality, seed = request["properties"]["quality"], request["properties"]["seed"]
    assert (quality["minimum"], quality["maximum"], quality["default"]) == (1, 10, 7)
    assert (seed["minimum"], seed["maximum"]) == (0, 2**32 - 1)
    width = request["$defs"]["DimensionsBody"]["properties"]["width"]["anyOf"][0]
    assert (width["minimum"], width["maximum"]) == (0.001, 100_000)


def test_the_forms_know_every_view_and_no_null(described):
    assert UploadForm.model_fields.keys() == {"image", *VIEWS}
    for name in ("UploadForm", "GenerateForm"):
        for field in described["components"]["schemas"][name]["properties"].values():
            assert {"type": "null"} not in field.get("anyOf", ())
            assert field.get("default", "") is not None


def test_it_is_made_once(desk):
    found = routes(desk.app)
    assert document(found, needs_key=False) is document(routes(desk.app), needs_key=False)
    assert document(found, needs_key=True) is not document(found, needs_key=False)


def test_where_keys_are_set_it_says_that_they_are_needed(tmp_path):
    with open_desk(tmp_path, ORFEAS_API_KEY="correct-horse") as desk:
        for path in ("/api/openapi.json", "/api/docs"):
            assert desk.client.get(path).status_code == 401
        described = desk.client.get("/api/openapi.json", headers={"X-API-Key": "correct-horse"}).json
        found = operations(described)
        assert found["GET", "/api/jobs"]["security"] == [{"bearer": []}, {"header": []}]
        assert found["GET", "/api/health"]["security"] == []
        assert {} in found["GET", "/{filename}"]["security"]


# ── the server's answers ─────────────────────────────────────────────────────────────────────────────────────────────


class Judge:
    """Holds every JSON answer of a client against the description, in which no object may have a field more."""

    def __init__(self, client):
        self.described = client.get("/api/openapi.json").json()
        strict = copy.deepcopy(self.described["components"])
        for schema in walk(strict):
            if "properties" in schema and schema.get("title") in strict["schemas"]:
                schema["additionalProperties"] = False
        self.components, self.seen = strict, set()
        client.session.hooks["response"].append(self)

    def __call__(self, answer, **options):
        path = answer.request.path_url.partition("?")[0]
        templates = [each for each in self.described["paths"] if self.fits(each, path, answer.request.method)]
        template = max(templates, key=lambda each: len(re.sub(r"{\w+}", "", each)))  # of what is not to be filled in
        operation = self.described["paths"][template][answer.request.method.lower()]
        response = operation["responses"][str(answer.status_code)]
        kind = answer.headers.get("Content-Type", "").partition(";")[0]
        assert kind in response.get("content", {"": {}}), (path, kind)
        self.seen.add((operation["operationId"], answer.status_code))
        if kind == "application/json":
            schema = response["content"][kind]["schema"]
            jsonschema_rs.Draft202012Validator({**schema, "components": self.components}).validate(answer.json())

    def fits(self, template, path, method):
        pattern = re.sub(r"{(\w+)}", lambda match: ".+" if match[1] == "key" else "[^/]+", template)
        return method.lower() in self.described["paths"][template] and re.fullmatch(pattern, path)


def test_every_answer_of_a_real_run_is_described(tmp_path):
    with scripted_server(tmp_path, MAX_IMAGE_PIXELS="100000") as client:
        judge, picture = Judge(client), fresh_png()
        job_id = client.upload(picture)
        view = {"job_id": job_id, "view": "back"}
        assert client.post("/api/upload-image", params=view, files={"image": ("b.png", fresh_png())}).status_code == 200
        client.conductor.hold = True
        client.generate(job_id, format="glb", dimensions={"height": 60})
        run = client.conductor.next_run()
        client.status(job_id)
        client.generate(job_id)
        client.get("/api/jobs")
        run.end()
        client.conductor.hold = False
        done = client.settled(job_id)
        assert done["mesh"]
        client.download(done)
        client.get(done["download_url"], headers={"Range": "bytes=0-9"})
        client.get(done["download_url"], headers={"Range": "bytes=999999999-"})
        client.get(f"/api/download/{job_id}/model.3mf", params={"name": "my cup"})
        client.get(f"/api/download-base64/{job_id}/model.obj")
        client.get(f"/api/download/{job_id}/model.exe")
        client.get(done["preview_url"])
        client("PUT", f"/api/jobs/{job_id}/thumbnail", data=picture)
        client.get(f"/api/jobs/{job_id}/thumbnail")
        client.get(f"/api/jobs/{job_id}/mask")
        client("PUT", f"/api/jobs/{job_id}/mask", data=encode(draw().getchannel("A")))
        client("DELETE", f"/api/jobs/{job_id}/mask")
        form = {"image": ("a.png", fresh_png()), "back": ("b.png", fresh_png())}
        again = client.post("/api/generate-3d", files=form, data={"format": "ply", "scale": "unit"}).json()
        client.settled(again["job_id"])
        client.generate(client.upload(picture))
        for how in ("raise", "oom"):
            client.conductor.hold = True
            failing = client.upload(fresh_png())
            client.generate(failing)
            client.conductor.next_run().end(how)
            client.settled(failing)
        client.conductor.hold = False
        client.post("/api/upload-image", files={"image": ("a.png", b"plain text")})
        for path in ("/api/jobs?limit=0", "/api/job-status/nobody", "/metrics", "/api/docs", "/", "/studio.js"):
            client.get(path)
        client.get("/api/jobs?status=failed")
        for path in ("/api/health", "/api/ready", "/api/models-info", "/health"):
            client.get(path)
        for path in ("/api/cache/stats", "/api/cache/config", "/api/cache/entries"):
            client.get(path)
        key = client.get("/api/cache/entries").json()["entries"][0]["key"]
        for method in ("PUT", "DELETE"):
            assert client(method, f"/api/cache/entries/{key}/pin").status_code == 200
            assert client(method, "/api/cache/entries/nothing/pin").status_code == 404
        client("DELETE", f"/api/cache/entries/{key}")
        client.post("/api/cache/config", json={"max_size": 10})
        client.post("/api/cache/config", json={})
        client.post("/api/cache/clear", params={"tier": "memory"})
        client.post("/api/cache/clear", params={"tier": "none"})
        client.get("/api/cache/entries")
        client.post("/api/cache/clear")
        sent = client.post("/send", json={"image": _base64(fresh_png())}).json()["uid"]
        client.settled(sent)
        client.get(f"/status/{sent}")
        client.get(f"/status/{failing}")
        client.post("/generate", json={"image": _base64(picture)})
        client("DELETE", f"/api/jobs/{job_id}")
        named = {each["operationId"] for each in operations(judge.described).values()}
        assert {name for name, status in judge.seen if status < 300} == named - {"openapi"}
        assert {200, 206, 400, 404, 409, 415, 416} <= {status for _, status in judge.seen}


def test_the_plain_dict_answers_with_the_same_fields(tmp_path):
    with scripted_server(tmp_path, CACHE_BACKEND="dict") as client:
        Judge(client)
        client.make(fresh_png())
        for path in ("/api/cache/stats", "/api/cache/config", "/api/cache/entries"):
            assert client.get(path).status_code == 200


def _base64(data):
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("path", ["/api/generate-3d", "/api/cache/clear", "/send", "/api/jobs/x"])
def test_a_route_asked_with_the_wrong_method_is_not_taken_for_a_file_of_the_page(desk, path):
    answer = desk.client.get(path)
    assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")
    assert "GET" not in answer.headers["Allow"]


def test_two_slashes_are_no_redirect(desk):
    desk.server.results.set("a//b", b"x", 1e-6)
    assert desk.client.delete("/api/cache/entries/a//b").json["key"] == "a//b"
    assert desk.client.delete("/api/jobs//x").status_code == 405


def test_the_greatest_version_that_is_allowed_is_taken(desk):
    job = desk.job("completed")
    assert desk.client.get(f"/api/job-status/{job.id}?since={10**12}").status_code == 200
    assert desk.client.get(f"/api/job-status/{job.id}?since={10**12 + 1}").status_code == 400


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_tells_all_of_it_and_asks_nothing_from_elsewhere(desk, described):
    answer = desk.client.get("/api/docs")
    assert answer.content_type == "text/html; charset=utf-8"
    text = html.unescape(answer.text)
    for (method, path), each in operations(described).items():
        assert f'<b class="{method}">{method}</b> <code>{path}</code>' in text
        for parameter in each.get("parameters", ()):
            assert f"<code>{parameter['name']}</code>" in text
    for name, model in described["components"]["schemas"].items():
        assert f'id="{name}"' in text
        assert all(f"<code>{field}</code>" in text for field in model.get("properties", ()))
    assert all(f"<code>{code}</code>" in text for code in STATUS)
    identities = re.findall(r'id="([^"]+)"', text)
    assert len(set(identities)) == len(identities)
    links = re.findall(r'(?:href|src)="([^"]*)"', text)
    assert not re.search(r"<(script|style|img|iframe)|\sstyle=|\son\w+=", text)
    for link in links:
        assert link[1:] in identities if link.startswith("#") else desk.client.get(link).status_code == 200
    assert "1 to 10" in text
    assert (ROOT / "frontend" / "reference.css").is_file()


def test_the_page_escapes_everything(described):
    hostile = '<script>alert("1")</script>'
    spoilt = copy.deepcopy(described)
    for each in walk(spoilt):
        for word in ("summary", "description", "name"):
            if isinstance(each.get(word), str):
                each[word] = hostile
        if isinstance(each.get("enum"), list):
            each["enum"] = [hostile]
        if isinstance(each.get("default"), str):
            each["default"] = hostile
    spoilt["paths"][f"/{hostile}"] = spoilt["paths"].pop("/api/jobs")
    spoilt["tags"] = [{"name": "State", "description": hostile}]
    assert "<script" not in page_of(spoilt)
    assert marked("`<b>` & <i>") == "<code>&lt;b&gt;</code> &amp; &lt;i&gt;"
