"""The main job with the built-in model over real HTTP: a picture in, a printable model out, the second time at once."""

import base64
import io

import numpy as np
import pytest
import trimesh
from live_server import draw, encode, fresh_png
from PIL import Image

FORMATS = ("glb", "stl", "obj", "ply", "3mf")
STATUS_FIELDS = {
    "job_id", "status", "progress", "step", "message", "error", "error_type", "error_details", "job_type", "format",
    "quality", "dimensions", "model", "cached", "queue_position", "output_file", "download_url", "model_url",
    "preview_url", "image_url", "filename", "file_size", "mesh", "timings", "created_at", "started_at", "finished_at",
    "eta_seconds",
}  # fmt: skip


def read_mesh(data: bytes, kind: str) -> trimesh.Trimesh:
    """The delivered file as another program sees it, in millimetres, seam vertices merged."""
    mesh = trimesh.load(io.BytesIO(data), file_type=kind, force="mesh")
    mesh = trimesh.Trimesh(mesh.vertices * (1000 if kind == "glb" else 1), mesh.faces)
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    return mesh


def sides(mesh: trimesh.Trimesh, kind: str) -> tuple[float, float, float]:
    """Width, height, depth, whichever axis is up in the format."""
    x, y, z = mesh.extents
    return (x, y, z) if kind == "glb" else (x, z, y)


@pytest.fixture(scope="module")
def png():
    return fresh_png()


@pytest.fixture(scope="module")
def first(studio, png):
    return studio.make(png, format="glb", quality=3)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_a_watertight_model_of_the_reported_size(studio, png, kind):
    status = studio.make(png, format=kind, quality=3)
    assert status["status"] == "completed", status
    data = studio.download(status)
    assert len(data) == status["file_size"]
    mesh = read_mesh(data, kind)
    report = status["mesh"]
    assert mesh.is_watertight
    assert report["watertight"] is True
    assert report["faces"] == len(mesh.faces)
    assert sides(mesh, kind) == pytest.approx(report["extents_mm"], rel=1e-3)
    assert max(report["extents_mm"]) == pytest.approx(100, rel=1e-3)
    assert abs(mesh.volume) == pytest.approx(report["volume_mm3"], rel=1e-2)


def test_status_always_has_every_field(studio, png, first):
    uploaded = studio.upload(png)
    assert studio.status(uploaded).keys() >= STATUS_FIELDS
    assert first.keys() >= STATUS_FIELDS
    assert first["job_type"] == "3d"
    assert first["model"] == "builtin"
    assert first["progress"] == 100
    assert first["output_file"] == f"model_{first['job_id']}.glb"


def test_second_request_answers_completed_at_once_with_the_same_bytes(studio, png, first):
    job_id = studio.upload(png)
    answer = studio.generate(job_id, format="glb", quality=3).json()
    assert answer["status"] == "completed"
    assert answer["cached"] is True
    assert studio.download(answer) == studio.download(first)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {"compress_level": 1}), ("TIFF", {}), ("WEBP", {"lossless": True})]
)
def test_the_same_pixels_saved_by_another_program_hit(studio, first, png, kind, options):
    other = encode(Image.open(io.BytesIO(png)), kind, **options)
    assert other != png
    answer = studio.generate(studio.upload(other), format="glb", quality=3).json()
    assert (answer["status"], answer["cached"]) == ("completed", True)


def test_a_conversion_on_download_is_the_file_that_a_request_for_that_format_gives(studio, png, first):
    converted = studio.get(f"/api/download/{first['job_id']}/model.stl").content
    asked = studio.make(png, format="stl", quality=3)
    assert asked["cached"] is True
    assert studio.download(asked) == converted


@pytest.mark.parametrize(
    ("dimensions", "fit", "expected"),
    [
        ({"width": 40}, "contain", (40, None, None)),
        ({"height": 25.5}, "contain", (None, 25.5, None)),
        ({"depth": 12}, "contain", (None, None, 12)),
        ({"width": 30, "height": 50, "depth": 20}, "stretch", (30, 50, 20)),
    ],
)
@pytest.mark.parametrize("kind", ["glb", "stl", "3mf"])
def test_dimensions_are_millimetres_in_the_file(studio, png, first, dimensions, fit, expected, kind):
    status = studio.make(png, format=kind, quality=3, dimensions=dimensions, fit=fit)
    measured = sides(read_mesh(studio.download(status), kind), kind)
    for got, want in zip(measured, expected, strict=True):
        assert want is None or got == pytest.approx(want, rel=1e-3)
    if fit == "contain":
        original = first["mesh"]["extents_mm"]
        assert measured[0] / measured[1] == pytest.approx(original[0] / original[1], rel=1e-2)


def test_contain_stays_inside_every_side(studio, png):
    status = studio.make(png, format="stl", quality=3, dimensions={"width": 30, "height": 300, "depth": 9})
    measured = sides(read_mesh(studio.download(status), "stl"), "stl")
    assert all(got <= most * 1.001 for got, most in zip(measured, (30, 300, 9), strict=True))


def test_target_faces_bounds_the_delivered_mesh(studio, png, first):
    status = studio.make(png, format="stl", quality=3, target_faces=800)
    assert status["cached"] is True
    mesh = read_mesh(studio.download(status), "stl")
    assert mesh.is_watertight
    assert 400 <= len(mesh.faces) <= 800 < first["mesh"]["faces"]


def test_quality_changes_the_shape(studio, png, first):
    better = studio.make(png, format="glb", quality=6)
    assert better["cached"] is False
    assert better["mesh"]["faces"] > first["mesh"]["faces"]


def test_a_form_uploads_and_starts_in_one_call(studio):
    form = {"format": "stl", "quality": "2", "dimensions": '{"width": 20}', "remove_background": "auto"}
    answer = studio.post("/api/generate-3d", data=form, files={"image": ("a.png", fresh_png())})
    assert answer.status_code == 200
    assert answer.json()["status"] == "generating_3d"
    status = studio.settled(answer.json()["job_id"])
    assert status["status"] == "completed"
    assert status["mesh"]["extents_mm"][0] == pytest.approx(20, rel=1e-3)


def test_a_photograph_without_alpha_has_its_background_removed(studio):
    scene = Image.new("RGB", (160, 160), (225, 226, 230))
    scene.paste(draw(size=(120, 120)), (20, 20), draw(size=(120, 120)))
    status = studio.make(encode(scene, "JPEG", quality=95), quality=2, format="stl")
    assert status["status"] == "completed", status
    width, height, _ = status["mesh"]["extents_mm"]
    assert width / height == pytest.approx(1, abs=0.05)  # the ellipse, not the square picture


def test_an_upright_phone_photo_is_the_rotated_one(studio, png, first):
    image = Image.open(io.BytesIO(png))
    sideways = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6  # to be shown turned by 90° clockwise
    data = encode(sideways, "PNG", exif=exif)
    assert studio.generate(studio.upload(data), format="glb", quality=3).json()["cached"] is True


class TestDownloads:
    def test_headers_etag_and_ranges(self, studio, first):
        whole = studio.get(first["download_url"])
        assert whole.headers["Content-Type"] == "model/gltf-binary"
        assert first["output_file"] in whole.headers["Content-Disposition"]
        assert int(whole.headers["Content-Length"]) == len(whole.content)
        etag = whole.headers["ETag"]
        assert studio.get(first["download_url"], headers={"If-None-Match": etag}).status_code == 304
        for spec, expected in (
            ("bytes=0-99", slice(0, 100)),
            ("bytes=-50", slice(-50, None)),
            ("bytes=100-", slice(100, None)),
        ):
            part = studio.get(first["download_url"], headers={"Range": spec})
            assert part.status_code == 206
            assert part.content == whole.content[expected]
        beyond = studio.get(first["download_url"], headers={"Range": f"bytes={len(whole.content)}-"})
        assert beyond.status_code == 416
        assert beyond.json()["error"]

    @pytest.mark.parametrize(
        ("kind", "mime"),
        [("stl", "model/stl"), ("obj", "model/obj"), ("3mf", "model/3mf"), ("ply", "model/ply")],
    )
    def test_mime_types(self, studio, first, kind, mime):
        answer = studio.get(f"/api/download/{first['job_id']}/model_{first['job_id']}.{kind}")
        assert answer.headers["Content-Type"].partition(";")[0] == mime

    def test_head_tells_the_size(self, studio, first):
        answer = studio("HEAD", first["download_url"])
        assert int(answer.headers["Content-Length"]) == first["file_size"]

    def test_base64(self, studio, first):
        answer = studio.get(first["download_url"].replace("download", "download-base64")).json()
        assert base64.b64decode(answer["data"]) == studio.download(first)
        assert answer["original_size"] == first["file_size"]
        assert answer["filename"] == first["output_file"]

    def test_preview_is_the_uploaded_picture(self, studio, first, png):
        answer = studio.get(first["preview_url"])
        assert answer.content == png
        assert answer.headers["Content-Type"] == "image/png"

    @pytest.mark.parametrize(
        "name", ["model.exe", "model", "other.stl", "..%2f..%2fjob.json", "job.json", "model_x.stl"]
    )
    def test_other_names_are_not_found(self, studio, first, name):
        assert studio.get(f"/api/download/{first['job_id']}/{name}").status_code == 404


class TestHunyuanClients:
    def test_generate_answers_the_raw_file_scaled_to_one(self, studio, png):
        picture = "data:image/png;base64," + base64.b64encode(png).decode()
        wish = {
            "image": picture,
            "octree_resolution": 10**9,
            "num_inference_steps": -3,
            "face_count": 500,
            "texture": True,
        }
        answer = studio.post("/generate", json=wish)
        assert answer.status_code == 200
        mesh = trimesh.load(io.BytesIO(answer.content), file_type="glb", force="mesh")
        assert mesh.extents.max() == pytest.approx(2, rel=1e-3)
        assert abs(mesh.bounds).max() <= 1.001
        assert len(mesh.faces) <= 500

    def test_send_and_status(self, studio, png):
        uid = studio.post("/send", json={"image": base64.b64encode(png).decode(), "type": "stl"}).json()["uid"]
        studio.settled(uid)
        answer = studio.get(f"/status/{uid}").json()
        assert answer["status"] == "completed"
        mesh = trimesh.load(io.BytesIO(base64.b64decode(answer["model_base64"])), file_type="stl")
        assert mesh.extents.max() == pytest.approx(2, rel=1e-3)

    def test_refusals(self, studio):
        assert studio.post("/generate", json={"text": "a chair"}).status_code == 400
        assert studio.post("/generate", json={"mesh": "…", "image": "…"}).status_code == 501
        assert studio.post("/generate", json={"image": "not base64!"}).status_code == 400
        assert studio.post("/generate", json={"image": base64.b64encode(b"no picture").decode()}).status_code == 415
        assert studio.get("/status/nobody").status_code == 404
        assert studio.get("/health").json()["status"] == "healthy"


class TestState:
    def test_health_and_ready(self, studio):
        health = studio.get("/api/health").json()
        assert health["status"] == "healthy"
        assert health["server"] == "orfeas"
        assert health["models_status"] == "ready"
        assert health["model"] == "builtin"
        assert health.keys() >= {
            "version", "timestamp", "mode", "device", "gpu_info", "active_jobs", "queue_length", "capabilities",
            "uptime_seconds",
        }  # fmt: skip
        assert studio.get("/api/ready").status_code == 200

    def test_models_info(self, studio):
        info = studio.get("/api/models-info").json()
        builtin = next(model for model in info["models"] if model["id"] == "builtin")
        assert builtin["loaded"] is True
        assert builtin["available"] is True
        assert builtin["licence"]
        assert set(builtin["reads"]) == {"image", "quality"}
        assert info["gpu_stats"]["allocated_mb"] == 0

    def test_metrics_speak_prometheus(self, studio, first):
        text = studio.get("/metrics").text
        for name in (
            "orfeas_requests_total",
            "orfeas_jobs",
            "orfeas_generation_seconds_count",
            "orfeas_cache_hits_total",
        ):
            assert f"\n{name}" in text

    def test_the_page_is_served_and_nothing_beside_it(self, studio):
        page = studio.get("/")
        assert page.headers["Content-Type"].startswith("text/html")
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        for path in ("/.env", "/backend/main.py", "/..%2f.env", "/%2e%2e/.env", "/frontend/../.env"):
            assert studio.get(path).status_code == 404

    def test_jobs_are_listed_newest_first_in_pages(self, studio, png):
        ids = [studio.upload(png) for _ in range(3)]
        listing = studio.get("/api/jobs", params={"limit": 2}).json()
        assert [job["job_id"] for job in listing["jobs"]] == [ids[2], ids[1]]
        assert listing["total"] >= 3
        offset = studio.get("/api/jobs", params={"limit": 1, "offset": 2}).json()
        assert offset["jobs"][0]["job_id"] == ids[0]


class TestMask:
    def test_the_mask_found_is_the_picture_s_alpha_or_the_object(self, studio, png):
        job_id = studio.upload(png)
        answer = studio.get(f"/api/jobs/{job_id}/mask")
        assert answer.headers["Content-Type"] == "image/png"
        found = np.asarray(Image.open(io.BytesIO(answer.content)))
        assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(png)))[..., 3])

    def test_a_mask_of_one_s_own_decides_what_is_made_and_is_part_of_the_key(self, studio, png, first):
        job_id = studio.upload(png)
        mask = Image.new("L", (96, 128))
        mask.paste(255, (20, 30, 76, 60))
        path = f"/api/jobs/{job_id}/mask"
        assert studio("PUT", path, data=encode(mask)).json()["mask"] == "user"
        assert studio.status(job_id)["has_user_mask"] is True
        assert studio.get(path).content != b""
        answer = studio.generate(job_id, format="glb", quality=3).json()
        assert answer["status"] == "generating_3d"
        status = studio.settled(job_id)
        width, height, _ = status["mesh"]["extents_mm"]
        assert width / height == pytest.approx(56 / 30, rel=0.1)
        assert studio("DELETE", path).json()["mask"] == "auto"
        again = studio.generate(job_id, format="glb", quality=3).json()
        assert again["cached"] is True
        assert studio.download(again) == studio.download(first)

    @pytest.mark.parametrize(
        ("mask", "status"),
        [
            (b"no picture", 415),
            (encode(Image.new("L", (96, 128))), 422),
            (encode(Image.new("L", (300, 100), 255)), 400),
            (b"", 415),
        ],
    )
    def test_a_bad_mask_is_refused_and_nothing_changes(self, studio, png, mask, status):
        job_id = studio.upload(png)
        assert studio("PUT", f"/api/jobs/{job_id}/mask", data=mask).status_code == status
        assert studio.status(job_id)["has_user_mask"] is False

    def test_a_mask_makes_an_opaque_picture_with_removal_off_usable(self, studio):
        job_id = studio.upload(encode(draw().convert("RGB")))
        assert studio.generate(job_id, remove_background=False).status_code == 422
        mask = Image.new("L", (96, 128))
        mask.paste(255, (20, 30, 76, 60))
        studio("PUT", f"/api/jobs/{job_id}/mask", data=encode(mask))
        assert studio.generate(job_id, remove_background=False, quality=1).status_code == 200
        assert studio.settled(job_id)["status"] == "completed"


def test_a_thumbnail_is_kept_with_the_job(studio, png):
    job_id = studio.upload(png)
    path = f"/api/jobs/{job_id}/thumbnail"
    assert studio.get(path).status_code == 404
    assert studio.status(job_id)["thumbnail_url"] is None
    picture = encode(draw(size=(32, 32)))
    assert studio("PUT", path, data=picture).json()["thumbnail_url"] == path
    assert studio.get(path).content == picture
    assert studio.status(job_id)["thumbnail_url"] == path
    assert studio("PUT", path, data=b"<svg/>").status_code == 415
    assert studio("PUT", path, data=bytes(600_000)).status_code == 413
