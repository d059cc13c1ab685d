"""Who may see what. With a key set, some routes answered without it, and every key saw the jobs of every other."""

import re

import pytest
from in_process import Stage, house, puppet
from live_server import encode, fresh_png
from PIL import Image

from web.security import OPEN_PATHS
from web.state_routes import PAGE, page_paths

A, B = {"X-API-Key": "a"}, {"Authorization": "Bearer b"}
NOBODY = "00000000-0000-0000-0000-000000000000"


class Keyed:
    """A client that shows the same key with every request."""

    def __init__(self, client, headers):
        self._client, self._headers = client, headers

    def __call__(self, method, path, **options):
        return self._client(method, path, headers=self._headers, **options)

    def upload(self, data):
        return self("POST", "/api/upload-image", files={"image": ("a.png", data)}).json()["job_id"]

    def make(self, data):
        job_id = self.upload(data)
        assert self("POST", "/api/generate-3d", json={"job_id": job_id}).status_code == 200
        query = {"wait": 30, "until": "final"}
        return self("GET", f"/api/job-status/{job_id}", params=query).json()

    def jobs(self):
        return {job["job_id"] for job in self("GET", "/api/jobs").json()["jobs"]}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with house(tmp_path_factory.mktemp("keys"), puppet(Stage()), ORFEAS_API_KEY="a,b") as client:
        yield client


@pytest.fixture(scope="module")
def job(client):
    """A finished job of key a, with a mask and a thumbnail."""
    owner = Keyed(client, A)
    status = owner.make(fresh_png())
    assert owner("PUT", f"/api/jobs/{status['job_id']}/mask", data=MASK).status_code == 200
    assert owner("PUT", f"/api/jobs/{status['job_id']}/thumbnail", data=fresh_png()).status_code == 200
    return status


MASK = encode(Image.new("L", (96, 128), 255))
GENERATE = "/api/generate-3d"
ROUTES = [
    ("GET", "/api/job-status/ID", {}),
    ("DELETE", "/api/jobs/ID", {}),
    ("GET", "/api/download/ID/model.stl", {}),
    ("GET", "/api/download/ID/model_ID.glb", {}),
    ("GET", "/api/download-base64/ID/model.stl", {}),
    ("GET", "/api/preview/ID.png", {}),
    ("GET", "/api/jobs/ID/mask", {}),
    ("PUT", "/api/jobs/ID/mask", {"data": MASK}),
    ("DELETE", "/api/jobs/ID/mask", {}),
    ("GET", "/api/jobs/ID/thumbnail", {}),
    ("PUT", "/api/jobs/ID/thumbnail", {"data": MASK}),
    ("GET", "/status/ID", {}),
    ("POST", GENERATE, {"json": {"job_id": "ID"}}),
    ("POST", GENERATE, {"files": {}, "data": {"job_id": "ID", "quality": "3"}}),
    ("POST", "/api/upload-image?job_id=ID", {"files": {"image": ("a.png", MASK)}}),
    ("POST", "/api/upload-image?job_id=ID&view=back", {"files": {"image": ("a.png", MASK)}}),
]


def ask(client, method, path, options, job_id):
    def put(value):
        if isinstance(value, dict):
            return {key: put(each) for key, each in value.items()}
        return value.replace("ID", job_id) if isinstance(value, str) else value

    return client(method, path.replace("ID", job_id), **put(options))


@pytest.mark.parametrize(("method", "path", "options"), ROUTES, ids=lambda value: str(value)[:40])
def test_the_job_of_another_key_is_not_there(client, job, method, path, options):
    stranger, owner = Keyed(client, B), Keyed(client, A)
    answer = ask(stranger, method, path, options, job["job_id"])
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    unknown = ask(owner, method, path, options, NOBODY)
    assert answer.json() == {**unknown.json(), **({"error": answer.json()["error"]} if "preview" in path else {})}
    now = owner("GET", f"/api/job-status/{job['job_id']}").json()
    assert (now["status"], now["version"]) == ("completed", owner_version(owner, job))


def owner_version(owner, job):
    """Whatever a stranger asks for, the job is not changed by it."""
    version = owner("GET", f"/api/job-status/{job['job_id']}").json()["version"]
    assert job.setdefault("seen", version) == version
    return version


@pytest.mark.parametrize(("method", "path", "options"), ROUTES, ids=lambda value: str(value)[:40])
def test_every_route_of_a_job_is_among_those(client, job, method, path, options):
    """The owner is answered by each of them: a list that names a route wrongly would prove nothing."""
    owner = Keyed(client, A)
    job_id = owner.make(fresh_png())["job_id"]
    owner("PUT", f"/api/jobs/{job_id}/thumbnail", data=MASK)
    assert ask(owner, method, path, options, job_id).status_code == 200


def test_the_list_above_is_whole(client):
    """A route that takes a job's id or the name of its file is in it."""
    rules = {(method, rule.rule) for rule in client.server.app.url_map.iter_rules() for method in rule.methods}
    named = {
        (method, rule)
        for method, rule in rules
        if re.search(r"<(job_id|uid|filename)>", rule) and method not in ("HEAD", "OPTIONS")
    }
    listed = {
        (method, re.sub(r"ID\.png|model\S*", "<filename>", path).replace("ID", "<job_id>"))
        for method, path, _ in ROUTES
    }
    assert named <= listed, "routes of a job that nobody has tried with another's key"


def test_each_key_lists_its_own_jobs(client, job):
    mine = Keyed(client, B).upload(fresh_png())
    assert Keyed(client, B).jobs() == {mine}
    assert job["job_id"] in Keyed(client, A).jobs()
    assert mine not in Keyed(client, A).jobs()
    totals = [Keyed(client, key)("GET", "/api/jobs", params={"limit": 1}).json()["total"] for key in (A, B)]
    assert totals == [len(Keyed(client, A).jobs()), 1]


def test_the_same_picture_under_two_keys_is_one_run_and_two_jobs(tmp_path):
    stage, png = Stage(), fresh_png()
    with house(tmp_path, puppet(stage), ORFEAS_API_KEY="a,b") as client:
        first, second = Keyed(client, A).make(png), Keyed(client, B).make(png)
        assert (first["cached"], second["cached"]) == (False, True)
        assert Keyed(client, A)("DELETE", f"/api/jobs/{first['job_id']}").status_code == 200
        assert Keyed(client, B)("GET", f"/api/download/{second['job_id']}/model.ply").status_code == 200
        assert len(stage.runs) == 1


def test_what_was_made_without_a_key_is_the_first_key_s_and_without_keys_all_is_seen(tmp_path):
    model = puppet(Stage())
    with house(tmp_path, model) as client:
        keyless = client.make(fresh_png())["job_id"]
    with house(tmp_path, model, ORFEAS_API_KEY="a,b") as client:
        owned = {name: Keyed(client, key).make(fresh_png())["job_id"] for name, key in (("a", A), ("b", B))}
        assert Keyed(client, A).jobs() == {keyless, owned["a"]}
        assert Keyed(client, B).jobs() == {owned["b"]}
        assert Keyed(client, B)("GET", f"/api/job-status/{keyless}").status_code == 404
    with house(tmp_path, model, ORFEAS_API_KEY="b") as client:
        assert Keyed(client, B).jobs() == {keyless, owned["b"]}
    with house(tmp_path, model) as client:
        assert {job["job_id"] for job in client.get("/api/jobs").json()["jobs"]} == {keyless, *owned.values()}
        records = dict(client.server.files.index.jobs())
    assert records.keys() == {keyless, *owned.values()}
    assert not any(b'"a"' in record for record in records.values()), "a key is not told"


# ── what is open ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_route_wants_a_key_but_those_that_are_listed(client):
    """`/metrics` and unknown paths answered without one."""
    tried = 0
    for rule in client.server.app.url_map.iter_rules():
        path = re.sub(r"<[^>]+>", "x", rule.rule)
        for method in rule.methods - {"OPTIONS"}:
            answer = client(method, path)
            assert (answer.status_code == 401) == (path not in OPEN_PATHS | page_paths()), (method, path)
            tried += 1
    assert tried > 20


def test_the_list_of_what_is_open():
    assert {"/api/health", "/api/ready", "/health"} == OPEN_PATHS
    files = {f"/{path.relative_to(PAGE).as_posix()}" for path in PAGE.rglob("*") if path.is_file()}
    assert page_paths() == files | {"/"}


def test_the_page_is_open(client):
    for path in page_paths():
        assert client.get(path).status_code == 200, path


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/nothing",
        "/api/anything",
        "/api/health/",
        "/api/health/..",
        "/api/healthy",
        "/API/health",
        "/status/x",
        "/index.html/",
        "/../README.md",
        "/.env",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_unknown_paths_want_a_key_too(client, method, path):
    answer = client(method, path)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
