"""What a start does with the folder that it finds: nothing of a user's is ever lost. Each test says what was before."""

import io
import json
import logging
import re
import shutil
import subprocess
import sys

import pytest
from in_process import Stage, house, puppet
from live_server import BACKEND, PATIENCE, encode, files_kept, fresh_png, scripted_server
from PIL import Image

from errors import DataFolderError
from store.files import Files

FIXTURES = BACKEND / "tests" / "fixtures"
EARLIER = json.loads((FIXTURES / "data-0.1.json").read_text(encoding="utf-8"))
"""What release 0.1 said of its jobs when it wrote `data-0.1`; one job was running when it was killed."""
MASK = encode(Image.new("L", (96, 128), 255))


def folder_of(data, job_id):
    return data / "outputs" / job_id


def belongings(data, job_id):
    """The bytes of all that a job has, wherever it lies, by name."""
    paths = [path for path in files_kept(data) if job_id in str(path.relative_to(data))]
    return {path.name: path.read_bytes() for path in paths}


def shapes_of(data):
    return {path.name for path in (data / "shapes").iterdir()}


def later_version(record):
    return json.dumps({**json.loads(record), "version": 99, "owner": {"names": ["of", "a", "later", "kind"]}}).encode()


def wrong_type(record):
    return json.dumps({**json.loads(record), "created_at": "yesterday"}).encode()


def torn(record):
    return record[: len(record) // 4]


def empty(record):
    return b""


def somebody_elses(record):
    return json.dumps({**json.loads(record), "id": "00000000-0000-0000-0000-000000000000"}).encode()


BREAKS = [later_version, wrong_type, torn, empty, somebody_elses]


def with_belongings(client):
    """A completed job with a mask of its own and a thumbnail."""
    job_id = client.upload(fresh_png())
    assert client("PUT", f"/api/jobs/{job_id}/mask", data=MASK).status_code == 200
    assert client.generate(job_id).status_code == 200
    assert client.settled(job_id)["status"] == "completed"
    assert client("PUT", f"/api/jobs/{job_id}/thumbnail", data=fresh_png()).status_code == 200
    return job_id


def test_a_record_that_cannot_be_read_takes_nothing_with_it_and_comes_back_once_it_can(tmp_path, caplog):
    """A start took the upload and the shape of every record that it could not read for orphans, and deleted them."""
    data, model = tmp_path / "data", puppet(Stage())
    with house(data, model) as client:
        broken = {with_belongings(client): how for how in BREAKS}
        fine = client.make(fresh_png())
    had = {job_id: belongings(data, job_id) for job_id in broken}
    shapes = shapes_of(data)
    assert all(len(files) == 5 for files in had.values())
    for job_id, how in broken.items():
        record = folder_of(data, job_id) / "job.json"
        record.write_bytes(how(record.read_bytes()))

    with caplog.at_level(logging.WARNING), house(data, model) as client:
        assert client.status(fine["job_id"])["status"] == "completed"
        assert client.get("/api/jobs").json()["total"] == 1
        for job_id in broken:
            assert client.get(f"/api/job-status/{job_id}").status_code == 404
            assert sum(job_id in line and "set-aside" in line for line in caplog.messages) == 1
    for job_id, files in had.items():
        aside = {path.name: path.read_bytes() for path in (data / "set-aside" / job_id).iterdir()}
        assert aside.keys() == files.keys()
        assert {name: aside[name] for name in aside if name != "job.json"} == {
            name: files[name] for name in files if name != "job.json"
        }
        assert not folder_of(data, job_id).exists()
    assert shapes_of(data) == shapes

    caplog.clear()
    with caplog.at_level(logging.WARNING), house(data, model):
        assert not [line for line in caplog.messages if "set-aside" in line], "they are aside already"
    assert shapes_of(data) == shapes

    for job_id, files in had.items():
        (data / "set-aside" / job_id / "job.json").write_bytes(files["job.json"])
    with house(data, model) as client:
        for job_id, files in had.items():
            status = client.status(job_id)
            assert (status["status"], status["has_user_mask"]) == ("completed", True)
            assert client.download(status) == files[status["filename"]]
            assert client.get(f"/api/download/{job_id}/model.obj").status_code == 200
            assert client.get(status["thumbnail_url"]).status_code == 200
            assert belongings(data, job_id) == files
    assert not list((data / "set-aside").iterdir())


def test_a_shape_that_a_record_names_that_was_set_aside_outlives_the_other_jobs_of_it(tmp_path):
    data, model = tmp_path / "data", puppet(Stage())
    with house(data, model) as client:
        png = fresh_png()
        first, second = client.make(png), client.make(png)
    record = folder_of(data, first["job_id"]) / "job.json"
    before = record.read_bytes()
    record.write_bytes(later_version(before))
    with house(data, model) as client:
        assert client("DELETE", f"/api/jobs/{second['job_id']}").json()["status"] == "deleted"
    (data / "set-aside" / first["job_id"] / "job.json").write_bytes(before)
    with house(data, model) as client:
        assert client.get(f"/api/download/{first['job_id']}/model.obj").status_code == 200
        assert client("DELETE", f"/api/jobs/{first['job_id']}").json()["status"] == "deleted"
    assert not files_kept(data)


def test_what_no_record_names_is_swept_still(tmp_path):
    data, model = tmp_path / "data", puppet(Stage())
    with house(data, model) as client:
        kept = client.make(fresh_png())
        aside = with_belongings(client)
    record = folder_of(data, aside) / "job.json"
    record.write_bytes(later_version(record.read_bytes()))
    shapes = shapes_of(data)
    orphans = [
        data / "uploads" / "00000000-0000-0000-0000-000000000000.png",
        data / "uploads" / "00000000-0000-0000-0000-000000000000.back.png",
        data / "shapes" / f"{'0' * 64}.npz",
        folder_of(data, kept["job_id"]) / ".orfeas-0123.tmp",
    ]
    mine = data / "uploads" / "holiday.png"
    for path in (*orphans, mine):
        path.write_bytes(b"x")
    with house(data, model) as client:
        assert client.status(kept["job_id"])["status"] == "completed"
    assert not [path for path in orphans if path.exists()]
    assert mine.exists()
    assert shapes_of(data) == shapes


def listed(client):
    """Every job by its id; a job that was cancelled a minute ago is listed, but its status answers 410."""
    return {job["job_id"]: job for job in client.get("/api/jobs").json()["jobs"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier")
    shutil.copytree(FIXTURES / "data-0.1", folder / "data")
    return folder


@pytest.fixture(scope="module")
def client(folder):
    with scripted_server(folder) as client:
        yield client


class TestRelease01:
    """The folder of release 0.1, as its own server left it when it was killed."""

    def test_every_job_is_there(self, client, folder):
        assert client.get("/api/jobs").json()["total"] == len(EARLIER)
        assert not (folder / "data" / "set-aside").exists()

    @pytest.mark.parametrize("name", EARLIER)
    def test_its_jobs_stand_as_they_stood(self, client, name):
        before = EARLIER[name]
        now = listed(client)[before["job_id"]]
        if name == "interrupted":
            assert (now["status"], now["error_type"]) == ("failed", "stopped")
            return
        assert {key: now[key] for key in before} == before
        assert now["views"] == {"front": before["preview_url"]}

    @pytest.mark.parametrize("name", EARLIER)
    def test_its_pictures_are_shown(self, client, name):
        (upload,) = (FIXTURES / "data-0.1" / "uploads").glob(f"{EARLIER[name]['job_id']}.*")
        assert client.get(EARLIER[name]["preview_url"]).content == upload.read_bytes()

    @pytest.mark.parametrize("name", ["completed", "masked"])
    def test_its_results_are_the_same_bytes_and_can_be_had_in_other_formats(self, client, name):
        status = EARLIER[name]
        output = FIXTURES / "data-0.1" / "outputs" / status["job_id"] / status["filename"]
        answer = client.get(status["download_url"])
        assert answer.content == output.read_bytes()
        assert answer.headers["ETag"]
        runs = client.conductor.runs
        for kind in ("stl", "obj", "glb", "ply", "3mf"):
            converted = client.get(f"/api/download/{status['job_id']}/model.{kind}")
            assert converted.status_code == 200
            assert converted.content
        assert client.conductor.runs == runs

    def test_its_masks_and_thumbnails_are_there(self, client):
        masked, completed = EARLIER["masked"], EARLIER["completed"]
        outputs = FIXTURES / "data-0.1" / "outputs"
        with Image.open(outputs / masked["job_id"] / "mask.png") as image:
            before = image.tobytes()
        assert client.status(masked["job_id"])["has_user_mask"]
        answer = client.get(f"/api/jobs/{masked['job_id']}/mask")
        assert pixels(answer.content) == before
        thumbnail = client.get(completed["thumbnail_url"])
        assert thumbnail.content == (outputs / completed["job_id"] / "thumbnail").read_bytes()

    def test_its_jobs_can_be_started_again(self, client):
        for name in ("failed", "uploaded", "interrupted", "cancelled", "masked"):
            job_id = EARLIER[name]["job_id"]
            assert client.generate(job_id, quality=4).status_code == 200
            assert client.settled(job_id)["status"] == "completed"
        assert client.status(EARLIER["masked"]["job_id"])["has_user_mask"]

    def test_a_mask_can_be_changed_and_taken_away(self, client, folder):
        job_id = EARLIER["masked"]["job_id"]
        assert client("PUT", f"/api/jobs/{job_id}/mask", data=MASK).status_code == 200
        answer = client.get(f"/api/jobs/{job_id}/mask")
        assert set(pixels(answer.content)) == {255}
        assert client("DELETE", f"/api/jobs/{job_id}/mask").status_code == 200
        assert not list((folder / "data" / "outputs" / job_id).glob("mask*"))

    def test_it_is_read_again_as_this_release_writes_it(self, tmp_path):
        data = tmp_path / "data"
        shutil.copytree(FIXTURES / "data-0.1", data)
        for _ in range(2):  # the thumbnail has the record written anew
            with house(data, puppet(Stage(), "scripted")) as client:
                now = listed(client)
                for name in ("completed", "masked", "uploaded", "failed", "cancelled"):
                    job_id = EARLIER[name]["job_id"]
                    thumbnail = {"thumbnail_url": now[job_id]["thumbnail_url"]}
                    assert {key: now[job_id][key] for key in EARLIER[name]} == {**EARLIER[name], **thumbnail}
                    answer = client("PUT", f"/api/jobs/{job_id}/thumbnail", data=fresh_png())
                    assert answer.status_code == 200
        for path in (data / "outputs").glob("*/job.json"):
            assert json.loads(path.read_bytes())["version"] == 2


def pixels(png):
    with Image.open(io.BytesIO(png)) as image:
        return image.convert("L").tobytes()


class TestTwoServers:
    """Two servers on one folder deleted each other's uploads as orphans and wrote over each other's records."""

    def second(self, data, **environment):
        env = {"DATA_DIR": str(data), "ORFEAS_PORT": "0", "LOG_LEVEL": "WARNING", **environment}
        command = [sys.executable, str(BACKEND / "main.py")]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)

    def test_the_second_ends_with_one_line_that_names_the_first(self, tmp_path):
        data = tmp_path / "data"
        with scripted_server(tmp_path) as client:
            job_id = client.upload(fresh_png())
            other = {"DATA_DIR": str(tmp_path / "other"), "UPLOADS_DIR": str(data / "uploads")}
            for environment in ({}, other):
                refused = self.second(data, **environment)
                assert refused.returncode == 1
                (line,) = refused.stderr.splitlines()
                assert line.startswith("ORFEAS cannot start: the folder ")
                assert re.search(rf"\b{client.process.pid}\b", line)
                assert refused.stdout == ""
            assert client.status(job_id)["status"] == "uploaded"
            client.process.kill()
            client.process.wait()
            with scripted_server(tmp_path) as again:
                assert again.status(job_id)["status"] == "uploaded"

    @pytest.mark.parametrize("shared", ["uploads", "outputs"])
    @pytest.mark.parametrize("inside", [True, False], ids=["of the first's folder", "of neither's folder"])
    def test_a_folder_of_pictures_or_outputs_is_not_shared_either(self, tmp_path, shared, inside):
        first, second = tmp_path / "first", tmp_path / "second"
        common = first / shared if inside else tmp_path / "common"

        def folders(data):
            return {"uploads": data / "uploads", "outputs": data / "outputs", shared: common}

        def files(data):
            return Files(data, folders(data)["uploads"], folders(data)["outputs"])

        held = files(first)
        with pytest.raises(DataFolderError):
            files(second)
        held.close()
        files(second).close()
        held = files(second)
        with pytest.raises(DataFolderError):
            files(first)
        held.close()

    def test_a_refused_server_leaves_the_folders_to_others(self, tmp_path):
        """What it had locked before it was refused is free again."""
        held = Files(tmp_path / "a", tmp_path / "common", tmp_path / "a" / "outputs")
        with pytest.raises(DataFolderError):
            Files(tmp_path / "b", tmp_path / "common", tmp_path / "b" / "outputs")
        Files(tmp_path / "b", tmp_path / "b" / "uploads", tmp_path / "b" / "outputs").close()
        held.close()
