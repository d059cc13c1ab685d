"""Every 4xx of the API: a clear JSON error that names the field, nothing lost, nothing left behind."""

import io
import json

import pytest
from live_server import draw, encode, files_kept, fresh_png, scripted_server
from PIL import Image


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with scripted_server(tmp_path_factory.mktemp("bad"), MAX_UPLOAD_MB="0.2", MAX_IMAGE_PIXELS="100000") as client:
        yield client


@pytest.fixture(scope="module")
def job_id(client):
    return client.upload(fresh_png())


def check_error(answer, status, *fields):
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"error", "code", "details"}
    assert isinstance(body["error"], str)
    assert body["error"]
    assert "Traceback" not in answer.text
    for field in fields:
        assert field in body["details"], body


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"quality": 0}, "quality"),
        ({"quality": 11}, "quality"),
        ({"quality": "best"}, "quality"),
        ({"quality": True}, "quality"),
        ({"quality": 7.5}, "quality"),
        ({"quality": [7]}, "quality"),
        ({"quality": 10**400}, "quality"),
        ({"quality": "9" * 6000}, "quality"),
        ({"format": "exe"}, "format"),
        ({"format": 3}, "format"),
        ({"fit": "cover"}, "fit"),
        ({"dimensions": {"width": 0}}, "dimensions.width"),
        ({"dimensions": {"height": -5}}, "dimensions.height"),
        ({"dimensions": {"height": 1e-30}}, "dimensions.height"),  # a mesh whose vertices all lie in one place
        ({"dimensions": {"depth": float("nan")}}, "dimensions.depth"),
        ({"dimensions": {"depth": float("inf")}}, "dimensions.depth"),
        ({"dimensions": {"width": True}}, "dimensions.width"),
        ({"dimensions": {"width": 10**9}}, "dimensions.width"),
        ({"dimensions": [10, 20, 30]}, "dimensions"),
        ({"dimensions": "10x20"}, "dimensions"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"target_faces": 3}, "target_faces"),
        ({"target_faces": "few"}, "target_faces"),
        ({"remove_background": "maybe"}, "remove_background"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "x" * 5000}, "prompt"),
        ({"scale": "inch"}, "scale"),
    ],
)
def test_a_bad_field_is_named(client, job_id, wish, field):
    body = json.dumps({"job_id": job_id, **wish})
    check_error(client.post("/api/generate-3d", data=body, headers={"Content-Type": "application/json"}), 400, field)
    assert client.status(job_id)["status"] == "uploaded"


def test_several_bad_fields_are_all_named(client, job_id):
    check_error(client.generate(job_id, quality=99, format="exe"), 400, "quality", "format")


def test_unknown_keys_and_nulls_are_ignored(client):
    wish = {"style": "realistic", "dimensions": {"width": None}, "prompt": None, "quality": "8"}
    answer = client.generate(client.upload(fresh_png()), **wish)
    assert answer.status_code == 200
    assert answer.json()["quality"] == 8


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"text"', b"null", b"7", b"\xff\xfe", b"[" * 100_000, b'{"job_id": "\\ud800"}']
)
def test_a_body_that_is_no_object(client, body):
    answer = client.post("/api/generate-3d", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]


def test_unknown_jobs_routes_and_methods(client):
    for method, path in [
        ("GET", "/api/job-status/nobody"),
        ("DELETE", "/api/jobs/nobody"),
        ("GET", "/api/download/nobody/model.stl"),
        ("GET", "/api/download-base64/nobody/model.stl"),
        ("GET", "/api/preview/nobody.png"),
        ("GET", "/api/nothing"),
        ("DELETE", "/api/cache/entries/nothing"),
        ("GET", "/api/preview/..%2f..%2fjob.json"),
    ]:
        check_error(client(method, path), 404)
    check_error(client.post("/api/generate-3d", json={"job_id": "nobody"}), 404)
    check_error(client.post("/api/generate-3d", json={}), 400, "job_id")
    answer = client("PUT", "/api/cache/config")
    check_error(answer, 405)
    assert "POST" in answer.headers["Allow"]


def test_a_download_before_there_is_a_result(client, job_id):
    check_error(client.get(f"/api/download/{job_id}/model.stl"), 404)


@pytest.mark.parametrize("wait", ["-1", "31", "nan", "soon", "inf"])
def test_wait_out_of_range(client, job_id, wait):
    check_error(client.get(f"/api/job-status/{job_id}?wait={wait}"), 400, "wait")


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "offset=-1", "limit=99999", "limit=1e3", "offset=²"])
@pytest.mark.parametrize("path", ["/api/jobs", "/api/cache/entries"])
def test_pages_out_of_range(client, path, query):
    check_error(client.get(f"{path}?{query}"), 400, query.partition("=")[0])


class TestUploads:
    def test_missing_or_empty(self, client):
        check_error(client.post("/api/upload-image"), 400, "image")
        check_error(client.post("/api/upload-image", files={"picture": ("a.png", fresh_png())}), 400, "image")
        check_error(client.post("/api/upload-image", files={"image": ("a.png", b"")}), 400, "image")
        check_error(client.post("/api/upload-image", data=b"not a form"), 400, "image")

    @pytest.mark.parametrize(
        "data",
        [
            b"plain text",
            b"\x89PNG\r\n\x1a\n",
            encode(draw())[:200],
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
            b"GIF89a",
            b"8BPS" + bytes(100),
        ],
    )
    def test_not_an_image(self, client, data):
        check_error(client.post("/api/upload-image", files={"image": ("a.png", data)}), 415, "image")

    def test_too_many_bytes(self, client):
        check_error(client.post("/api/upload-image", files={"image": ("a.png", fresh_png() + bytes(200_000))}), 413)
        check_error(client.post("/api/upload-image", files={"image": ("a.png", bytes(2_000_000))}), 413)

    def test_too_many_pixels_are_refused_before_they_are_decoded(self, client):
        bomb = encode(Image.new("1", (9000, 9000)))
        assert len(bomb) < 20_000
        check_error(client.post("/api/upload-image", files={"image": ("a.png", bomb)}), 413, "image")

    def test_nothing_is_kept_of_a_refused_upload(self, tmp_path):
        with scripted_server(tmp_path) as client:
            client.post("/api/upload-image", files={"image": ("a.png", b"plain text")})
            client.post("/api/generate-3d", data={"quality": "99"}, files={"image": ("a.png", fresh_png())})
            assert client.get("/api/jobs").json()["total"] == 0
            assert not files_kept(tmp_path / "data")

    def test_the_answer_describes_the_picture(self, client):
        answer = client.post("/api/upload-image", files={"image": ("../../my photo.PNG", encode(draw(size=(90, 60))))})
        body = answer.json()
        assert body["original_filename"].endswith("my photo.PNG")
        assert body["filename"] == f"{body['job_id']}.png"
        assert body["preview_url"] == body["image_url"] == f"/api/preview/{body['filename']}"
        info = body["image_info"]
        assert (info["width"], info["height"], info["size"]) == (90, 60, [90, 60])
        assert (info["format"], info["mode"], info["has_transparency"]) == ("PNG", "RGBA", True)
        assert info["file_size"] == len(encode(draw(size=(90, 60))))


def test_hostile_bytes_never_break_the_server(client, rng):
    good = encode(draw())
    for _ in range(150):
        damaged = bytearray(good)
        for position in rng.integers(0, len(good), 8):
            damaged[position] = rng.integers(0, 256)
        answer = client.post("/api/upload-image", files={"image": ("a.png", bytes(damaged))})
        assert answer.status_code in (200, 413, 415), answer.text
    for data in (rng.bytes(5000), io.BytesIO(b"II*\x00" + rng.bytes(300)).read(), b"RIFF\xff\xff\xff\x7fWEBPVP8 "):
        assert client.post("/api/upload-image", files={"image": ("a.png", data)}).status_code == 415
    assert client.get("/api/health").json()["status"] == "healthy"
