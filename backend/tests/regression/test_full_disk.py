"""A disk that is really full: a file system of 12 MB holds one result of the built-in model at the usual quality."""

import subprocess
import sys

import pytest
from live_server import draw, encode, fresh_png, running_server
from PIL import Image, ImageDraw


@pytest.fixture
def disk(tmp_path):
    """Twelve megabytes; only the superuser may mount them."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def picture(number):
    image = Image.new("RGBA", (512, 512))
    box = (60 + 3 * number, 60, 450, 450 - 4 * number)
    ImageDraw.Draw(image).ellipse(box, fill=(190, 70 + number, 40, 255))
    return encode(image)


def fill(disk):
    """Take all that is left."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


def fetched(client, job_id):
    """The download, or why there is none."""
    answer = client.get(f"/api/download/{job_id}/model.stl")
    return answer.content if answer.status_code == 200 else (answer.status_code, answer.json()["code"])


def test_older_results_make_room_and_what_went_is_made_again_with_one_call(disk):
    with running_server(disk, CACHE_MAX_MEMORY_MB="0") as client:
        made = [client.make(picture(number)) for number in range(3)]
        assert [status["status"] for status in made] == ["completed"] * 3
        jobs = [status["job_id"] for status in made]
        found = {job_id: fetched(client, job_id) for job_id in jobs}
        assert isinstance(found[jobs[-1]], bytes), "the last one is there"
        assert found[jobs[0]] == (409, "result_evicted")
        now = client.status(jobs[0])
        assert (now["status"], now["error_type"], now["download_url"]) == ("failed", "result_evicted", None)
        assert client.get(now["preview_url"]).content == picture(0)

        assert client.generate(jobs[0]).status_code == 200
        again = client.settled(jobs[0])
        assert again["status"] == "completed"
        assert len(client.download(again)) == made[0]["file_size"]
        assert not list(disk.rglob("*.tmp"))
    with running_server(disk) as client:
        assert client.download(client.status(jobs[0])), "after a restart, too"
        assert client.get("/api/cache/stats").status_code == 200


def test_when_nothing_can_make_room_it_is_said_and_the_next_request_works(disk):
    with running_server(disk, CACHE_MAX_MEMORY_MB="0") as client:
        uploads = [client.upload(picture(number)) for number in range(3)]
        filler = fill(disk)
        assert client.generate(uploads[0]).status_code in (200, 507)
        failed = client.settled(uploads[0])
        assert (failed["status"], failed["error_type"]) == ("failed", "disk_full")
        refused = client.post("/api/upload-image", files={"image": ("a.png", encode(draw(size=(900, 900))))})
        assert (refused.status_code, refused.json()["code"]) == (507, "disk_full")
        assert client.get("/api/health").status_code == 200
        assert not list(disk.rglob("*.tmp"))

        filler.unlink()
        assert client.generate(uploads[1]).status_code == 200
        assert client.settled(uploads[1])["status"] == "completed"
        assert client.make(fresh_png())["status"] == "completed"


def test_what_is_pinned_makes_no_room(disk):
    with running_server(disk, CACHE_MAX_MEMORY_MB="0") as client:
        first = client.make(picture(0))
        for entry in client.get("/api/cache/entries").json()["entries"]:
            assert client("PUT", f"/api/cache/entries/{entry['key']}/pin").status_code == 200
        second = client.make(picture(1))
        assert (second["status"], second["error_type"]) == ("failed", "disk_full")
        assert len(client.download(first)) == first["file_size"]
        for entry in client.get("/api/cache/entries").json()["entries"]:
            assert client("DELETE", f"/api/cache/entries/{entry['key']}/pin").status_code == 200
        assert client.generate(second["job_id"]).status_code == 200
        assert client.settled(second["job_id"])["status"] == "completed"
