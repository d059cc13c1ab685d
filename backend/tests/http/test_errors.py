"""An error means one thing: one tree of classes, one table of statuses, one shape of all answers."""

import base64
import io
import re

import pytest
from live_server import encode
from PIL import Image
from support.desk import PICTURE, open_desk
from werkzeug.exceptions import default_exceptions

import errors
import mesh.mesh
import work.jobs
import work.pipeline
from models.shelf import Shelf
from settings import ROOT
from web.responses import STATUS


def upload(client, data=PICTURE, **options):
    return client.post("/api/upload-image", data={"image": (io.BytesIO(data), "a.png")}, **options)


def generate(client, job_id, **wish):
    return client.post("/api/generate-3d", json={"job_id": job_id, **wish})


def hunyuan(client, **body):
    return client.post("/generate", json={"image": base64.b64encode(PICTURE).decode(), **body})


def download(desk, kind, extension="stl", **options):
    return desk.client.get(f"/api/download/{desk.job(kind).id}/model.{extension}", **options)


def raises(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def provoke_internal(desk, patch):
    patch.setattr(desk.service, "receive_all", raises(RuntimeError("a secret")))
    return upload(desk.client)


def provoke_storage(desk, patch):
    job = desk.job("completed")
    patch.setattr(work.pipeline, "make_file", raises(OSError(5, "Input/output error")))
    return desk.client.get(f"/api/download/{job.id}/model.ply")


def provoke_disk_full(desk, patch):
    patch.setattr(desk.service.files.system, "write", raises(OSError(28, "No space left on device")))
    return upload(desk.client, encode(Image.new("RGB", (50, 50), "red")))


def provoke_interrupted(desk, patch):
    patch.setattr(desk.service, "make", raises(errors.JobInterruptedError()))
    return hunyuan(desk.client)


def provoke_out_of_memory(desk, patch):
    job = desk.job("completed")
    patch.setattr(work.pipeline, "make_file", raises(MemoryError()))
    return desk.client.get(f"/api/download/{job.id}/model.ply")


def provoke_empty_mesh(desk, patch):
    job = desk.job("completed")
    patch.setattr(work.pipeline, "make_file", raises(errors.EmptyMeshError()))
    return desk.client.get(f"/api/download/{job.id}/model.ply")


def provoke_bad_shape(desk, patch):
    patch.setattr(mesh.mesh.Mesh, "check", raises(errors.BadShapeError()))
    return hunyuan(desk.client)


def provoke_queue_full(desk, patch):
    patch.setattr(desk.service.queue, "_max_queued", 0)
    return generate(desk.client, desk.job("uploaded").id)


def provoke_job_busy(desk, patch):
    patch.setattr(desk.service.jobs, "check_idle", raises(errors.JobBusyError()))
    return generate(desk.client, desk.job("uploaded").id)


def provoke_busy(desk, patch):
    patch.setattr(work.jobs, "MAX_WAITERS", 0)
    patch.setattr(desk.service, "make", lambda job, wishes: None)
    return hunyuan(desk.client)


def provoke_model_unavailable(desk, patch):
    patch.setattr(Shelf, "use", raises(errors.ModelUnavailableError("its weights are gone")))
    return hunyuan(desk.client)


def provoke_model_not_ready(desk, patch):
    patch.setattr(desk.server.shelf, "default", None)
    patch.setattr(desk.server.shelf, "not_ready_reason", "quick: its weights are missing")
    return generate(desk.client, desk.job("uploaded").id)


def provoke_loading(desk, patch):
    patch.setattr(desk.server.shelf, "default", None)
    return generate(desk.client, desk.job("uploaded").id)


def provoke_stopped(desk, patch):
    job = desk.job("uploaded")
    desk.service.stop(timeout=3)
    return generate(desk.client, job.id)


def provoke_rate_limited(desk, patch):
    for _ in range(100):
        answer = desk.client.get("/api/jobs")
        if answer.status_code != 200:
            break
    return answer


PROVOKE = {
    "bad_request": lambda desk, patch: generate(desk.client, desk.job("uploaded").id, quality="best"),
    "unauthorized": lambda desk, patch: desk.app.test_client().get("/api/jobs"),
    "forbidden_host": lambda desk, patch: desk.client.get("/api/health", headers={"Host": "evil.example"}),
    "forbidden_origin": lambda desk, patch: upload(desk.client, headers={"Origin": "http://evil.example"}),
    "not_found": lambda desk, patch: desk.client.get("/api/nothing"),
    "method_not_allowed": lambda desk, patch: desk.client.get("/api/generate-3d"),
    "job_busy": provoke_job_busy,
    "shape_lost": lambda desk, patch: download(desk, "completed, shape lost", "ply"),
    "result_evicted": lambda desk, patch: download(desk, "completed, evicted"),
    "upload_lost": lambda desk, patch: download(desk, "completed, upload lost"),
    "cancelled": lambda desk, patch: desk.client.get(f"/api/job-status/{desk.job('cancelled').id}"),
    "too_large": lambda desk, patch: upload(desk.client, bytes(3_000_000)),
    "not_an_image": lambda desk, patch: upload(desk.client, b"plain text"),
    "requested_range_not_satisfiable": lambda desk, patch: download(
        desk, "completed", headers={"Range": "bytes=99999999-"}
    ),
    "empty_image": lambda desk, patch: desk.client.post(
        "/api/generate-3d", data={"image": (io.BytesIO(encode(Image.new("RGB", (50, 50), "red"))), "a.png")}
    ),
    "empty_mesh": provoke_empty_mesh,
    "bad_shape": provoke_bad_shape,
    "rate_limited": provoke_rate_limited,
    "internal": provoke_internal,
    "storage": provoke_storage,
    "disk_full": provoke_disk_full,
    "interrupted": provoke_interrupted,
    "not_offered": lambda desk, patch: hunyuan(desk.client, mesh="base64"),
    "busy": provoke_busy,
    "loading": provoke_loading,
    "model_not_ready": provoke_model_not_ready,
    "model_unavailable": provoke_model_unavailable,
    "queue_full": provoke_queue_full,
    "stopped": provoke_stopped,
    "out_of_memory": provoke_out_of_memory,
}
SETTINGS = {"unauthorized": {"ORFEAS_API_KEY": "correct-horse"}, "rate_limited": {"ENABLE_RATE_LIMITING": "1"}}


def check_shape(answer, code):
    assert answer.status_code == STATUS[code], answer.text
    body = answer.json
    assert list(body) == ["error", "code", "details"]
    assert body["code"] == code
    assert isinstance(body["error"], str)
    assert body["error"]
    assert isinstance(body["details"], dict)
    assert answer.content_type == "application/json"
    assert "Traceback" not in answer.text
    assert "secret" not in answer.text
    assert ".py" not in answer.text


@pytest.mark.parametrize("code", STATUS)
def test_every_error_has_one_shape_one_code_and_one_status(tmp_path, monkeypatch, code):
    with open_desk(tmp_path, **SETTINGS.get(code, {})) as desk:
        check_shape(PROVOKE[code](desk, monkeypatch), code)


@pytest.mark.parametrize("code", STATUS)
def test_wherever_an_error_is_raised_its_answer_is_the_same(tmp_path, code):
    with open_desk(tmp_path) as desk:
        desk.app.add_url_rule("/raise", view_func=raises(errors.codes()[code]("said to people", {"field": "wrong"})))
        answer = desk.client.get("/raise")
        check_shape(answer, code)
        assert answer.json == {"error": "said to people", "code": code, "details": {"field": "wrong"}}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 408, 411, 413, 415, 416, 418, 428, 431, 500, 503])
def test_what_the_framework_refuses_has_a_code_of_ours(tmp_path, status):
    with open_desk(tmp_path) as desk:
        desk.app.add_url_rule("/raise", view_func=raises(default_exceptions[status]()))
        answer = desk.client.get("/raise")
        check_shape(answer, answer.json["code"])


def test_the_table_and_the_tree_know_the_same_codes():
    assert errors.codes().keys() == STATUS.keys()


def test_the_tree_at_the_head_of_the_file_is_the_tree():
    drawn, path = {}, []
    for line in errors.__doc__.splitlines():
        if match := re.match(r"([│├└─ ]*)(\w+Error)\b(?: +([a-z_]+\b)?)?", line):
            depth = len(match[1]) // 3
            path[depth:] = [match[2]]
            if match[3] and line.index(match[3]) == 32:
                drawn[match[3]] = path.copy()
            else:
                assert "code" not in vars(getattr(errors, match[2]))
    real = {
        code: [each.__name__ for each in reversed(kind.__mro__) if issubclass(each, errors.OrfeasError)]
        for code, kind in errors.codes().items()
    }
    assert drawn == real


def test_the_reference_names_every_code_at_its_status():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    table = page[page.index("| status | code | when |") :].partition("\n\n")[0]
    assert {code: int(status) for status, code in re.findall(r"^\| (\d+) \| `(\w+)` \|", table, re.MULTILINE)} == STATUS


def test_a_fault_says_nothing_of_the_inside(tmp_path, monkeypatch):
    with open_desk(tmp_path) as desk:
        answer = provoke_internal(desk, monkeypatch)
        assert answer.json == {
            "error": "the server failed on this request; its log says why",
            "code": "internal",
            "details": {},
        }
