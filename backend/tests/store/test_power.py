"""Loss of power: whatever a disk has not been told to keep may be lost, or kept, one by one.

A server works, and every write, renaming, fsync and removal is noted, and what each transaction of the index says. Then
the power fails after each of the notes in turn. Sure is of the files what was fsynced under a name whose folder was
fsynced since, and that was not removed since; of the index the last transaction that was fsynced, and any later one may
be there, too. Every row of each of them must name files that are sure.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faults import digest, elsewhere, folders, name_by_job, result
from in_process import Stage, house, puppet
from live_server import BACKEND, draw, encode

from store.disk import Disk
from store.filesystem import FileSystem
from store.index import Index
from work.records import JobStatus

Named = frozenset[Path]


@dataclass(frozen=True)
class Said:
    """What a transaction leaves in the index."""

    rows: dict[str, list[tuple]]
    jobs: dict[str, dict]
    """Records, by id."""
    names: Named
    """The files that the rows name, less those that are known to be missing."""


@dataclass
class Notes:
    """What reached the system, in order."""

    data_dir: Path
    events: list[tuple] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    look: Callable[[], None] = lambda: None

    def add(self, *event):
        with self.lock:
            self.events.append(event)


class Recorder(FileSystem):
    """What makes a thing sure is noted when it is done, what makes it unsure when it begins."""

    def __init__(self, notes: Notes):
        super().__init__()
        self.notes = notes

    def write(self, path, data):
        super().write(path, data)
        self.notes.add("written", path, data)

    def rename(self, source, target):
        self.notes.add("rename", source, target)
        super().rename(source, target)

    def link(self, there, path):
        self.notes.add("link", there, path)
        super().link(there, path)

    def sync_folder(self, folder):
        super().sync_folder(folder)
        self.notes.add("folder", folder)

    def remove(self, path):
        self.notes.add("remove", path)
        super().remove(path)


def said(db, data_dir: Path, missing: set[str]) -> Said:
    rows = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in ("results", "jobs", "numbers")}
    contents = {sha256 for (sha256,) in db.execute("SELECT sha256 FROM results")}
    names, jobs = set[Path](), {}
    for _, job_id, file, shape, record in rows["jobs"]:
        contents |= {sha256 for sha256 in (file, shape) if sha256} - missing
        if record.startswith(b'{"version"'):
            jobs[job_id] = fields = json.loads(record)
            names |= {data_dir / "uploads" / picture["name"] for picture in fields["pictures"].values()}
            folder = data_dir / "outputs" / job_id
            names |= {folder / f"mask-{fields['mask'][:16]}.png"} if fields["mask"] else set()
            names |= {folder / "thumbnail"} if fields["has_thumbnail"] else set()
    return Said(rows, jobs, frozenset(names | {data_dir / "results" / sha256 for sha256 in contents}))


@contextmanager
def recorded(data_dir: Path) -> Iterator[Notes]:
    """Note what a server on that folder does."""
    notes = Notes(data_dir)
    in_transaction, sync = Index._in_transaction, Index.sync
    missing: Callable[[], set[str]] = set

    def transaction(index, action):
        def noted(db):
            done = action(db)
            notes.add("said", said(db, data_dir, missing()))  # from here on it may be there
            return done

        return in_transaction(index, noted)

    def synced(index):
        notes.look()
        with notes.lock:
            last = len(notes.events)
        sync(index)
        notes.add("synced", last)

    def system():
        return Recorder(notes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Index, "_in_transaction", transaction)
        patch.setattr(Index, "sync", synced)
        patch.setattr("store.files.FileSystem", system)
        yield notes


class Sure:
    """What is sure, and what may be, after so many of the notes."""

    def __init__(self):
        self.data: dict[Path, bytes] = {}
        """Of files that were fsynced, by the name they have now."""
        self.sure: set[Path] = set()
        self.index: list[Said] = []
        """The last that is sure, and all that may be."""
        self.positions: list[int] = []
        self.answered: dict[str, str] = {}
        """What finished jobs deliver, as SHA-256."""

    def take(self, number: int, event: tuple):
        what, *facts = event
        if what == "written":
            path, data = facts
            self.data[path] = data
        elif what == "rename":
            source, target = facts
            was = self.data.get(target)
            self.data[target] = self.data.pop(source)
            if was != self.data[target]:
                self.sure.discard(target)
        elif what == "link":
            there, path = facts
            self.data[path] = self.data[there]
        elif what == "folder":
            self.sure |= {path for path in self.data if path.parent == facts[0]}
        elif what == "remove":
            self.sure.discard(facts[0])
            self.data.pop(facts[0], None)
        elif what == "said":
            self.index.append(facts[0])
            self.positions.append(number)
        elif what == "synced":
            done = sum(position < facts[0] for position in self.positions)
            keep = max(done - 1, 0)
            self.index, self.positions = self.index[keep:], self.positions[keep:]
        elif what == "answered":
            self.answered[facts[0]] = facts[1]
        elif what == "changing":
            self.answered.pop(facts[0], None)


def check(notes: Notes, at: Callable[[int, Sure], None] = lambda number, disk: None):
    disk = Sure()
    for number, event in enumerate(notes.events):
        disk.take(number, event)
        for state in disk.index:
            lost = state.names - disk.sure
            assert not lost, f"after {number} notes, the last {describe(event)}: a row names {lost}"
            for job_id, file in disk.answered.items():
                delivery = (state.jobs.get(job_id) or {}).get("delivery") or {}
                assert delivery.get("sha256") == file, f"after {number} notes: {job_id} was finished"
        at(number, disk)


def describe(event):
    return " ".join(str(each)[-60:] for each in event if not isinstance(each, Said | bytes))


PICTURES = [encode(draw(mark=mark, size=(40, 48))) for mark in range(71, 76)]
MASK = encode(draw(mark=70, size=(40, 48)).getchannel("A"))


def a_server_s_day(data_dir: Path, notes: Notes):
    """All that changes files: two processes after each other."""

    changing = set()

    def watch(client):
        """Before anything is synced: who looks at the jobs now, and sees that one is completed, may rely on it."""

        def look():
            for job in list(client.server.service.jobs._by_id.values()):
                if job.status is JobStatus.COMPLETED and job.id not in changing:
                    notes.add("answered", job.id, job.delivery.sha256)

        notes.look = look

    def finished(client, job_id):
        status = client.settled(job_id)
        assert status["status"] == "completed", status
        notes.add("answered", job_id, digest(client.download(status)))
        changing.discard(job_id)
        return job_id

    def made(client, picture, **wish):
        return finished(client, generated(client, client.upload(picture), **wish))

    def generated(client, job_id, **wish):
        change(job_id)
        assert client.generate(job_id, **wish).status_code == 200
        return job_id

    def change(job_id):
        changing.add(job_id)
        notes.add("changing", job_id)

    def delete(client, job_id):
        change(job_id)
        assert client("DELETE", f"/api/jobs/{job_id}").status_code == 200

    model = puppet(Stage())
    with house(data_dir, model, CACHE_DISK_MB="0.02", CACHE_MAX_MEMORY_MB="0.01") as client:
        watch(client)
        first = made(client, PICTURES[0])
        second = made(client, PICTURES[0])  # known: a row, and the picture under a further name
        for kind in ("glb", "ply"):
            client.get(f"/api/download/{first}/model.{kind}")
        made(client, PICTURES[1], format="obj", dimensions={"width": 20})
        assert client.post(
            f"/api/upload-image?job_id={second}&view=back", files={"image": ("b.png", PICTURES[2])}
        ).status_code == 200  # fmt: skip
        change(second)  # another front: the job has to be made again
        for picture in PICTURES[3:]:
            assert client.post(
                f"/api/upload-image?job_id={second}&view=front", files={"image": ("b.png", picture)}
            ).status_code == 200  # fmt: skip
        masks = f"/api/jobs/{first}/mask"
        assert client("PUT", masks, data=MASK, headers={"Content-Type": "image/png"}).status_code == 200
        assert client("DELETE", masks).status_code == 200
        assert client("PUT", masks, data=MASK, headers={"Content-Type": "image/png"}).status_code == 200
        thumbnail = client(
            "PUT", f"/api/jobs/{first}/thumbnail", data=PICTURES[0], headers={"Content-Type": "image/png"}
        )
        assert thumbnail.status_code == 200
        finished(client, generated(client, second))
        finished(client, generated(client, first, quality=3))
        for number in range(6):  # more than the tier holds
            made(client, PICTURES[number % 5], quality=number + 1, format=("stl", "3mf")[number % 2])
        client.post("/api/cache/clear?tier=disk")
        made(client, PICTURES[2])
        for entry in client.get("/api/cache/entries").json()["entries"][:2]:
            client("PUT", f"/api/cache/entries/{entry['key']}/pin")
            client("DELETE", f"/api/cache/entries/{entry['key']}")
        delete(client, second)
        delete(client, client.upload(PICTURES[1]))
        left = client.upload(PICTURES[4])
    with house(data_dir, model, CACHE_DISK_MB="0.01") as client:
        watch(client)
        finished(client, generated(client, left))
        made(client, PICTURES[3], quality=9)
        delete(client, first)
        client.post("/api/cache/clear")


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("power") / "data"
    with recorded(data_dir) as notes:
        a_server_s_day(data_dir, notes)
    return notes


def test_whenever_the_power_fails_every_row_names_files_that_are_sure_and_what_was_finished_is(day):
    kinds = [event[0] for event in day.events]
    assert {"written", "rename", "link", "folder", "remove", "said", "synced", "answered"} <= set(kinds)
    assert kinds.count("said") > 60
    assert kinds.count("remove") > 7
    check(day)


def test_the_next_server_finds_all_that_was_finished(day, tmp_path, request):
    """At some of these moments, for real: the folder as the failure left it at worst, and a server on it."""
    every = 7 if request.config.getoption("--slow") else 61
    model = puppet(Stage())

    def fail(number, disk):
        if not disk.index or number % every:
            return
        for worst, state in (("earliest", disk.index[0]), ("latest", disk.index[-1])):
            folder = tmp_path / f"{number} {worst}"
            for path in disk.sure:
                copy = folder / path.relative_to(day.data_dir)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(disk.data[path])
            for name in ("uploads", "outputs", "results"):
                (folder / name).mkdir(parents=True, exist_ok=True)
                (folder / name / ".orfeas-0123456789abcdef.tmp").write_bytes(b"half")
            fill(folder, state)
            with house(folder, model) as client:
                for job_id, file in disk.answered.items():
                    status = client.status(job_id)
                    assert (status["status"], digest(client.download(status))) == ("completed", file)
                    assert client.get(status["preview_url"]).status_code == 200
                for job_id in state.jobs:
                    if client.status(job_id)["status"] != "uploaded":
                        assert client.settled(job_id)["status"] == "completed"
                assert client.server.results.disk.stats()["damaged"] == 0
                assert client.make(PICTURES[0])["status"] == "completed"
            assert not list(folder.rglob("*.tmp"))
            shutil.rmtree(folder)

    check(day, fail)


def fill(folder: Path, state: Said):
    index = Index(folder / "index.db", folder / "set-aside")

    def write(db):
        for table, rows in state.rows.items():
            for row in rows:
                db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    index.change(write)
    index.close()


class TestTheCheckItself:
    """It finds what it is for."""

    def notes(self, folder, do):
        with recorded(folder) as notes, folders(folder) as files:
            do(files)
        return notes

    def test_a_row_before_its_file(self, tmp_path):
        def do(files):
            files.index.save_job("a", b"{}", digest(b"x"), None)
            name_by_job(files, "b", b"x")

        with pytest.raises(AssertionError, match="a row names"):
            check(self.notes(tmp_path, do))

    def test_a_folder_that_was_not_synced(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Recorder, "sync_folder", lambda system, folder: None)
        with pytest.raises(AssertionError, match="a row names"):
            check(self.notes(tmp_path, lambda files: name_by_job(files, "a", b"x")))

    def test_a_file_that_goes_before_the_row_is_sure_to_be_gone(self, tmp_path):
        def do(files):
            name_by_job(files, "a", b"x")
            files.index.sync()
            files.index.change(lambda db: db.execute("DELETE FROM jobs"))
            files.system.remove(files.blobs.path(digest(b"x")))

        with pytest.raises(AssertionError, match="a row names"):
            check(self.notes(tmp_path, do))

    def test_the_store_itself(self, tmp_path):
        """One thread is about to sync the folder when another names the same content, and a third gives it up."""

        def do(files):
            tier = Disk(files, 1)
            system = files.system
            real, once = system.sync_folder, []

            def slow(folder):
                if not once:
                    once.append(folder)
                    elsewhere(lambda: tier.put("key", result("same"), None))()
                real(folder)

            system.sync_folder = slow
            name_by_job(files, "a", result("same").data)
            tier.delete("key")
            files.index.sync()

        check(self.notes(tmp_path, do))


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows the calls")
def test_what_the_system_was_asked_to_do(tmp_path):
    """From outside: of a file that is kept and a transaction that is synced, every byte is on the disk before its name,
    and the name before the row."""
    script = f"""
import sys
sys.path[:0] = [{str(BACKEND)!r}, {str(BACKEND / "tests")!r}]
from pathlib import Path
from faults import folders, name_by_job
with folders(Path({str(tmp_path / "data")!r})) as files:
    name_by_job(files, "a", b"x")
    files.index.sync()
    print("MARK", flush=True)
"""
    log = tmp_path / "calls"
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2,write,pwrite64"
    traced = ["strace", "-f", "-y", "-e", calls, "-o", str(log), sys.executable, "-c", script]
    done = subprocess.run(traced, capture_output=True, text=True, check=False)
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip("no process may be watched here")
    assert done.returncode == 0, done.stderr
    lines = log.read_text().partition('"MARK')[0].splitlines()
    data = os.path.realpath(tmp_path / "data")

    def first(pattern, after=0):
        expression = re.compile(pattern)
        return next(number for number, line in enumerate(lines) if number >= after and expression.search(line))

    temporary = rf"{data}/results/\.orfeas-[0-9a-f]+\.tmp"
    written = first(rf"write\([0-9]+<{temporary}>, \"x\"")
    synced = first(rf"f(data)?sync\([0-9]+<{temporary}>\)", written)
    renamed = first(rf"rename.*{temporary}.*{data}/results/{digest(b'x')}", synced)
    folder = first(rf"f(data)?sync\([0-9]+<{data}/results>\)", renamed)
    row = first(rf"pwrite64\([0-9]+<{data}/index\.db-wal>", folder)
    first(rf"f(data)?sync\([0-9]+<{data}/index\.db-wal>\)", row)
