"""What a start does with the folder that it finds: nothing of a user's is ever lost. Each test says what was before."""

import io
import json
import logging
import re
import shutil
import subprocess
import sys
import threading

import pytest
from in_process import Stage, house, puppet, until
from live_server import BACKEND, PATIENCE, encode, files_kept, fresh_png, scripted_server
from PIL import Image

from errors import DataFolderError
from store.earlier import Earlier
from store.files import Files
from work.jobs import Jobs
from work.records import ACTIVE

FIXTURES = BACKEND / "tests" / "fixtures"
RELEASES = ("0.1", "0.2")
EARLIER = {release: json.loads((FIXTURES / f"data-{release}.json").read_text(encoding="utf-8")) for release in RELEASES}
"""What each release said of its jobs when it wrote its `data`; one job ran when it was killed, and some waited."""
EACH = [(release, name) for release in RELEASES for name in EARLIER[release]]
UNDER_WAY = ("interrupted", "waiting", "last")
MASK = encode(Image.new("L", (96, 128), 255))


def left_by(release, folder):
    """The folder of that release, as its own server left it when it was killed."""
    shutil.copytree(FIXTURES / f"data-{release}", folder / "data")
    return folder / "data"


def named(name, release="0.2"):
    return EARLIER[release][name]["job_id"]


def belongings(data, job_id):
    """The bytes of all that a job has, wherever it lies, by name."""
    paths = [path for path in files_kept(data) if job_id in str(path.relative_to(data))]
    return {path.name: path.read_bytes() for path in paths}


def shapes_of(data):
    return {path.name for path in (data / "shapes").glob("*")}


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


def model():
    return puppet(Stage(), "scripted")


@pytest.mark.parametrize("how", BREAKS)
def test_a_record_that_cannot_be_read_takes_nothing_with_it_and_comes_back_once_it_can(tmp_path, caplog, how):
    """A start took the upload and the shape of every record that it could not read for orphans, and deleted them."""
    data, broken = left_by("0.2", tmp_path), [named("masked"), named("completed")]
    had, shapes = {job_id: belongings(data, job_id) for job_id in broken}, shapes_of(data)
    assert {len(files) for files in had.values()} == {4, 5}
    for job_id in broken:
        record = data / "outputs" / job_id / "job.json"
        record.write_bytes(how(record.read_bytes()))

    for aside_already in (False, True):
        caplog.clear()
        with caplog.at_level(logging.WARNING), house(data, model()) as client:
            assert client.status(named("converted"))["status"] == "completed"
            assert client.get("/api/jobs").json()["total"] == len(EARLIER["0.2"]) - len(broken)
            for job_id in broken:
                assert client.get(f"/api/job-status/{job_id}").status_code == 404
                said = sum(job_id in line and "set-aside" in line for line in caplog.messages)
                assert said == (0 if aside_already else 1)
        for job_id, files in had.items():
            aside = {path.name: path.read_bytes() for path in (data / "set-aside" / job_id).iterdir()}
            assert aside == {**files, "job.json": aside["job.json"]}
            assert not (data / "outputs" / job_id).exists()
        assert shapes_of(data) == shapes

    for job_id, files in had.items():
        (data / "set-aside" / job_id / "job.json").write_bytes(files["job.json"])
    with house(data, model()) as client:
        for job_id, files in had.items():
            status = client.status(job_id)
            assert status["status"] == "completed"
            assert client.download(status) == files[status["filename"]]
            assert client.get(f"/api/download/{job_id}/model.obj").status_code == 200
        assert client.status(named("masked"))["has_user_mask"]
        assert client.get(client.status(named("completed"))["thumbnail_url"]).status_code == 200
    assert not list((data / "set-aside").iterdir())
    assert shapes_of(data) == set()


def test_a_shape_that_a_record_names_that_was_set_aside_outlives_the_other_jobs_of_it(tmp_path):
    data, (first, second) = left_by("0.2", tmp_path), (named("masked"), named("converted"))
    record = data / "outputs" / first / "job.json"
    before = record.read_bytes()
    record.write_bytes(later_version(before))
    with house(data, model()) as client:
        assert client("DELETE", f"/api/jobs/{second}").json()["status"] == "deleted"
    (data / "set-aside" / first / "job.json").write_bytes(before)
    with house(data, model()) as client:
        assert client.get(f"/api/download/{first}/model.obj").status_code == 200
        delete_all(client)
    assert not files_kept(data)


def test_what_no_record_names_is_swept_still(tmp_path):
    data, aside = left_by("0.2", tmp_path), named("masked")
    record = data / "outputs" / aside / "job.json"
    record.write_bytes(later_version(record.read_bytes()))
    orphans = [
        data / "uploads" / "00000000-0000-0000-0000-000000000000.png",
        data / "uploads" / "00000000-0000-0000-0000-000000000000.back.png",
        data / "shapes" / f"{'0' * 64}.npz",
        data / "outputs" / named("completed") / ".orfeas-0123.tmp",
    ]
    mine = data / "uploads" / "holiday.png"
    for path in (*orphans, mine):
        path.write_bytes(b"x")
    shape = json.loads(record.read_bytes())["delivery"]["shape_key"].removeprefix("shape:")
    with house(data, model()) as client:
        assert client.status(named("completed"))["status"] == "completed"
    assert not [path for path in orphans if path.exists()]
    assert mine.exists()
    assert f"{shape}.npz" in shapes_of(data)


@pytest.mark.parametrize("call", ["keep_output", "keep_shape", "forget", "sweep"])
def test_a_start_that_ends_while_it_takes_over_is_done_again(tmp_path, monkeypatch, call):
    data, calls, plain = left_by("0.2", tmp_path), [], getattr(Earlier, call)

    def ends(self, *args):
        calls.append(1)
        if len(calls) == 2 or call == "sweep":
            raise KeyboardInterrupt
        return plain(self, *args)

    files = Files(data, data / "uploads", data / "outputs")
    with monkeypatch.context() as ending:
        ending.setattr(Earlier, call, ends)
        with pytest.raises(KeyboardInterrupt):
            Jobs(files, threading.Condition(threading.RLock())).all()
    files.close()
    with house(data, model()) as client:
        assert client.get("/api/jobs").json()["total"] == len(EARLIER["0.2"])
        check_results(client, "0.2")


def check_results(client, release):
    """What its jobs delivered is had in the same bytes, and in every other format."""
    for before in EARLIER[release].values():
        if before["status"] == "completed":
            output = FIXTURES / f"data-{release}" / "outputs" / before["job_id"] / before["filename"]
            answer = client.get(before["download_url"])
            assert answer.content == output.read_bytes()
            assert answer.headers["ETag"]
            for kind in ("stl", "obj", "glb", "ply", "3mf"):
                converted = client.get(f"/api/download/{before['job_id']}/model.{kind}")
                assert converted.status_code == 200
                assert converted.content


def listed(client):
    """Every job by its id; a job that was cancelled a minute ago is listed, but its status answers 410."""
    return {job["job_id"]: job for job in client.get("/api/jobs").json()["jobs"]}


def delete_all(client):
    """All jobs, once they are over."""
    until(lambda: not ACTIVE & {job["status"] for job in listed(client).values()})
    for job_id in listed(client):
        assert client("DELETE", f"/api/jobs/{job_id}").json()["status"] == "deleted"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folders = {release: tmp_path_factory.mktemp("earlier") for release in RELEASES}
    for release, folder in folders.items():
        left_by(release, folder)
    return folders


@pytest.fixture(scope="module")
def clients(folders):
    with scripted_server(folders["0.1"]) as first, scripted_server(folders["0.2"]) as second:
        yield {"0.1": first, "0.2": second}


class TestEarlierReleases:
    """The folder of an earlier release, as its own server left it when it was killed."""

    @pytest.mark.parametrize("release", RELEASES)
    def test_every_job_is_there(self, clients, folders, release):
        assert clients[release].get("/api/jobs").json()["total"] == len(EARLIER[release])
        assert not (folders[release] / "data" / "set-aside").exists()

    @pytest.mark.parametrize(("release", "name"), EACH)
    def test_its_jobs_stand_as_they_stood(self, clients, release, name):
        before, client = EARLIER[release][name], clients[release]
        if name in UNDER_WAY:
            now = client.settled(before["job_id"])
            assert (now["status"], now["cached"]) == ("completed", False), "it goes on"
            assert (now["format"], now["created_at"]) == (before["format"], before["created_at"])
            return
        now = listed(client)[before["job_id"]]
        assert {key: now[key] for key in before} == before
        assert now["views"]["front"] == before["preview_url"]

    @pytest.mark.parametrize("release", RELEASES)
    def test_its_jobs_come_in_the_same_order(self, clients, release):
        before = sorted(EARLIER[release].values(), key=lambda job: job["created_at"], reverse=True)
        assert list(listed(clients[release])) == [job["job_id"] for job in before]

    @pytest.mark.parametrize(("release", "name"), EACH)
    def test_its_pictures_are_shown(self, clients, release, name):
        uploads = FIXTURES / f"data-{release}" / "uploads"
        urls = {
            EARLIER[release][name]["preview_url"],
            *listed(clients[release])[named(name, release)]["views"].values(),
        }
        for url in urls:
            assert clients[release].get(url).content == (uploads / url.rpartition("/")[2]).read_bytes()

    @pytest.mark.parametrize("release", RELEASES)
    def test_its_results_are_the_same_bytes_and_can_be_had_in_other_formats(self, clients, release):
        for name in UNDER_WAY:
            if name in EARLIER[release]:
                clients[release].settled(named(name, release))
        runs = clients[release].conductor.runs
        check_results(clients[release], release)
        assert clients[release].conductor.runs == runs

    @pytest.mark.parametrize("release", RELEASES)
    def test_its_masks_and_thumbnails_are_there(self, clients, release):
        client, outputs = clients[release], FIXTURES / f"data-{release}" / "outputs"
        masked, completed = named("masked", release), EARLIER[release]["completed"]
        (mask,) = (outputs / masked).glob("mask*")
        with Image.open(mask) as image:
            before = image.tobytes()
        assert client.status(masked)["has_user_mask"]
        assert pixels(client.get(f"/api/jobs/{masked}/mask").content) == before
        thumbnail = client.get(completed["thumbnail_url"])
        assert thumbnail.content == (outputs / completed["job_id"] / "thumbnail").read_bytes()

    @pytest.mark.parametrize("release", RELEASES)
    def test_nothing_is_there_twice(self, clients, folders, release):
        listed(clients[release])
        data = folders[release] / "data"
        assert not [*data.glob("outputs/*/job.json"), *data.glob("outputs/*/model_*"), *data.glob("shapes")]
        named = {path.name for path in files_kept(data / "uploads")}
        assert named == {path.name for path in (FIXTURES / f"data-{release}" / "uploads").iterdir()}

    @pytest.mark.parametrize("release", RELEASES)
    def test_its_jobs_can_be_started_again(self, clients, release):
        client = clients[release]
        for name in ("failed", "uploaded", "interrupted", "cancelled", "masked"):
            job_id = named(name, release)
            assert client.generate(job_id, quality=4).status_code == 200
            assert client.settled(job_id)["status"] == "completed"
        assert client.status(named("masked", release))["has_user_mask"]

    @pytest.mark.parametrize("release", RELEASES)
    def test_a_mask_can_be_changed_and_taken_away(self, clients, folders, release):
        client, job_id = clients[release], named("masked", release)
        mask = encode(Image.new("L", Image.open(io.BytesIO(client.get(f"/api/jobs/{job_id}/mask").content)).size, 255))
        assert client("PUT", f"/api/jobs/{job_id}/mask", data=mask).status_code == 200
        answer = client.get(f"/api/jobs/{job_id}/mask")
        assert set(pixels(answer.content)) == {255}
        assert client("DELETE", f"/api/jobs/{job_id}/mask").status_code == 200
        assert not list((folders[release] / "data" / "outputs" / job_id).glob("mask*"))

    @pytest.mark.parametrize("release", RELEASES)
    def test_it_is_read_again_as_this_release_writes_it(self, tmp_path, release):
        data = left_by(release, tmp_path)
        for _ in range(2):  # the thumbnail has the record written anew
            with house(data, model()) as client:
                now = listed(client)
                for name, before in EARLIER[release].items():
                    if name not in UNDER_WAY:
                        job_id = before["job_id"]
                        thumbnail = {"thumbnail_url": now[job_id]["thumbnail_url"]}
                        assert {key: now[job_id][key] for key in before} == {**before, **thumbnail}
                        answer = client("PUT", f"/api/jobs/{job_id}/thumbnail", data=fresh_png())
                        assert answer.status_code == 200
                check_results(client, release)
                for _, record in client.server.files.index.jobs():
                    assert json.loads(record)["version"] == 3

    @pytest.mark.parametrize("release", RELEASES)
    def test_its_jobs_leave_nothing_when_they_are_deleted(self, tmp_path, release):
        data = left_by(release, tmp_path)
        with house(data, model()) as client:
            check_results(client, release)
            delete_all(client)
            assert client.get("/api/cache/entries").json()["entries"] == []
        assert not files_kept(data)

    def test_a_result_that_was_gone_before_is_not_promised(self, tmp_path):
        """Somebody had deleted the copy of one, and the shape of two."""
        data = left_by("0.2", tmp_path)
        masked, converted, completed = (EARLIER["0.2"][name] for name in ("masked", "converted", "completed"))
        shape = json.loads((data / "outputs" / masked["job_id"] / "job.json").read_bytes())["delivery"]["shape_key"]
        (data / "shapes" / f"{shape[6:]}.npz").unlink()
        for job in (masked, completed):
            (data / "outputs" / job["job_id"] / job["filename"]).unlink()
        with house(data, model()) as client:
            seen = client.status(masked["job_id"])
            assert (seen["status"], seen["error_type"]) == ("failed", "result_evicted")
            assert client.get(masked["download_url"]).json()["code"] == "result_evicted"
            assert client.download(client.status(converted["job_id"]))
            answer = client.get(f"/api/download/{converted['job_id']}/model.obj")
            assert (answer.status_code, answer.json()["code"]) == (409, "shape_lost")
            assert client.download(client.status(completed["job_id"])), "of its shape"
            assert client.generate(masked["job_id"]).status_code == 200
            assert client.settled(masked["job_id"])["status"] == "completed"


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
