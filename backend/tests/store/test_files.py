"""Files by name: whole or not there, the job's own and nobody else's; what releases before left, never lost."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from live_server import files_kept

from errors import DataFolderError
from store.earlier import Earlier
from store.files import Files

A, B = "0000000a-0000-0000-0000-000000000000", "0000000b-0000-0000-0000-000000000000"
SHAPE = f"shape:{'5' * 64}"


@pytest.fixture
def files(tmp_path):
    files = Files(tmp_path, tmp_path / "uploads", tmp_path / "outputs")
    yield files
    files.close()


def names(folder: Path):
    return {path.relative_to(folder).as_posix() for path in files_kept(folder)}


def fill(files, job_id=A):
    """All that a job can have alone."""
    files.save(files.upload(f"{job_id}.png"), b"front")
    files.save(files.upload(f"{job_id}.back.png"), b"back")
    files.save(files.new_mask(job_id, "f" * 64), b"mask")
    files.save(files.thumbnail(job_id), b"thumbnail")
    files.index.save_job(job_id, b"record", None, None)


def everything(job_id=A):
    return {
        f"uploads/{job_id}.png",
        f"uploads/{job_id}.back.png",
        f"outputs/{job_id}/mask-ffffffffffffffff.png",
        f"outputs/{job_id}/thumbnail",
    }


def forget(files, job_id=A):
    files.forget_job(job_id, [f"{job_id}.png", f"{job_id}.back.png"])


class TestSaving:
    @pytest.mark.parametrize("call", ["write", "rename"])
    def test_a_file_is_replaced_in_one_step(self, files, monkeypatch, call):
        path = files.upload("a.png")
        files.save(path, b"before")

        def fail(*args):
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as broken:
            broken.setattr(files.system, call, fail)
            with pytest.raises(OSError, match="Input/output"):
                files.save(path, b"after")
        assert path.read_bytes() == b"before"
        assert names(files.uploads_dir) == {"a.png"}
        files.save(path, b"after")
        assert path.read_bytes() == b"after"

    def test_a_reader_never_sees_a_part(self, files):
        path, done = files.upload("a.png"), threading.Event()
        versions = [bytes([n]) * 200_000 for n in range(8)]
        files.save(path, versions[0])

        def read():
            torn = []
            while not done.is_set():
                data = path.read_bytes()
                if data not in versions:
                    torn.append(data)
            return torn

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            for version in versions * 5:
                files.save(path, version)
            done.set()
            assert reading.result() == []

    def test_a_folder_that_a_user_deleted_is_made_again(self, files):
        for folder in (files.uploads_dir, files.outputs_dir):
            shutil.rmtree(folder)
        fill(files)
        assert names(files.data_dir) == everything()

    def test_a_new_mask_takes_the_place_of_the_old_and_of_that_of_an_earlier_release(self, files):
        earlier = files.outputs_dir / A / "mask.png"
        files.save(earlier, b"as 0.1 called it")
        assert files.mask(A, "e" * 64) == earlier
        files.save(files.new_mask(A, "e" * 64), b"one")
        files.keep_mask(A, "e" * 64)
        assert files.mask(A, "e" * 64).read_bytes() == b"one"
        files.save(files.new_mask(A, "f" * 64), b"two")
        files.keep_mask(A, "f" * 64)
        assert not files.mask(A, "e" * 64).exists()
        assert names(files.outputs_dir) == {f"{A}/mask-ffffffffffffffff.png"}
        files.keep_mask(A, None)
        assert names(files.outputs_dir) == set()


class TestForgetting:
    def test_all_that_a_job_has_goes_and_nothing_else(self, files, tmp_path):
        fill(files, A)
        fill(files, B)
        forget(files, A)
        assert names(tmp_path) == everything(B)
        assert not (files.outputs_dir / A).exists()
        forget(files, A)

    def test_a_user_s_own_file_stays(self, files, tmp_path):
        fill(files, A)
        mine = files.outputs_dir / A / "notes.txt"
        mine.write_text("mine")
        forget(files, A)
        assert names(tmp_path) == {f"outputs/{A}/notes.txt"}

    def test_what_was_half_written_goes_at_the_next_start(self, tmp_path):
        for place in ("uploads", "outputs", f"outputs/{A}", "results"):
            (tmp_path / place).mkdir(parents=True)
            (tmp_path / place / ".orfeas-0123.tmp").write_bytes(b"half")
        Files(tmp_path, tmp_path / "uploads", tmp_path / "outputs").close()
        assert names(tmp_path) == set()


class TestSweeping:
    """A start deletes what a process left that ended between two writes."""

    @pytest.fixture
    def again(self, files):
        """The folder as the next process finds it."""
        found = []

        def again():
            files.close()
            found.append(Files(files.data_dir, files.uploads_dir, files.outputs_dir))
            return found[0]

        yield again
        for each in found:
            each.close()

    def test_an_upload_that_no_job_has_goes(self, files, again):
        fill(files)
        for name in (f"{B}.png", f"{B}.left.png", f"{A}x.png", "holiday.png"):
            files.upload(name).write_bytes(b"x")
        again().sweep()
        assert names(files.data_dir) == everything() | {f"uploads/{A}x.png", "uploads/holiday.png"}

    def test_an_upload_that_has_come_since_the_start_stays(self, files):
        """Its job is about to be written."""
        fill(files)
        files.save(files.upload(f"{B}.png"), b"x")
        files.sweep()
        assert files.upload(f"{B}.png").exists()

    def test_a_mask_and_a_thumbnail_that_no_job_has_go(self, files, again):
        fill(files, A)
        fill(files, B)
        files.index.change(lambda db: db.execute("DELETE FROM jobs WHERE id = ?", (B,)))
        mine = files.outputs_dir / B / "notes.txt"
        mine.write_text("mine")
        again().sweep()
        assert names(files.data_dir) == everything(A) | {f"outputs/{B}/notes.txt"}

    def test_the_last_job_leaves_nothing_either(self, files, again):
        fill(files)
        files.save(files.blobs.path("5" * 64), b"a result that nothing names")
        files.index.change(lambda db: db.execute("DELETE FROM jobs"))
        again().sweep()
        assert names(files.data_dir) == set()

    def test_where_there_never_was_a_job_nothing_goes(self, files, again):
        """This may not be the folder that it used to be: here somebody has deleted the index."""
        fill(files)
        files.save(files.blobs.path("5" * 64), b"a result")
        files.close()
        (files.data_dir / "index.db").unlink()
        again().sweep()
        assert names(files.data_dir) == everything() | {f"results/{'5' * 64}"}

    def test_beside_a_damaged_index_nothing_goes(self, files, again):
        fill(files, A)
        fill(files, B)
        files.index.change(lambda db: db.execute("DELETE FROM jobs WHERE id = ?", (B,)))
        files.aside_dir.mkdir()
        (files.aside_dir / "index-0123.db").write_bytes(b"its jobs may yet be read")
        again().sweep()
        assert everything(A) | everything(B) < names(files.data_dir)


def earlier_job(files, job_id=A, shape=SHAPE, record=None):
    """As releases before 0.3 kept a job."""
    for name, data in (
        (f"uploads/{job_id}.png", b"front"),
        (f"uploads/{job_id}.back.png", b"back"),
        (f"outputs/{job_id}/job.json", named(shape) if record is None else record),
        (f"outputs/{job_id}/model_{job_id}.stl", b"model"),
        (f"outputs/{job_id}/mask-ffffffffffffffff.png", b"mask"),
        (f"outputs/{job_id}/thumbnail", b"thumbnail"),
        (f"shapes/{shape[6:]}.npz", b"mesh"),
    ):
        files.save(files.data_dir / name, data)


def named(shape=SHAPE):
    return f'{{"delivery": {{"shape_key": "{shape}"}}}}'.encode()


def earlier_names(job_id=A):
    return everything(job_id) | {f"outputs/{job_id}/job.json", f"outputs/{job_id}/model_{job_id}.stl", shape_name()}


def shape_name(shape=SHAPE):
    return f"shapes/{shape[6:]}.npz"


class TestEarlier:
    @pytest.fixture
    def earlier(self, files):
        return Earlier(files)

    def test_only_folders_of_jobs_have_records(self, files, earlier):
        earlier_job(files)
        for name in ("mine", A.upper(), f"{A}x"):
            files.save(files.outputs_dir / name / "job.json", b"{}")
        assert [(each.job_id, each.data, each.aside) for each in earlier.records()] == [(A, named(), False)]

    def test_aside_and_back_again(self, files, earlier, tmp_path):
        earlier_job(files, A)
        earlier_job(files, B)
        (files.outputs_dir / A / "notes.txt").write_text("mine")
        before = names(tmp_path)
        folder = earlier.set_aside(A)
        assert folder == tmp_path / "set-aside" / A
        assert not any(A in name and not name.startswith("set-aside/") for name in names(tmp_path))
        assert len(names(tmp_path)) == len(before)
        assert [(each.job_id, each.aside) for each in earlier.records()] == [(B, False), (A, True)]
        earlier.take_back(A)
        assert names(tmp_path) == before

    def test_what_is_taken_over_is_kept_before_it_is_deleted(self, files, earlier, tmp_path):
        earlier_job(files)
        output, size = earlier.keep_output(A, f"model_{A}.stl")
        shape, _ = earlier.keep_shape(SHAPE)
        assert (size, files.blobs.read(output), files.blobs.read(shape)) == (5, b"model", b"mesh")
        assert earlier_names() < names(tmp_path)
        files.index.save_job(A, b"record", output, shape)
        earlier.forget(A)
        earlier.sweep()
        assert names(tmp_path) == everything() | {f"results/{output}", f"results/{shape}"}
        assert not (tmp_path / "shapes").exists()

    def test_what_is_not_there_is_not_kept(self, files, earlier):
        assert earlier.keep_output(A, f"model_{A}.stl") is earlier.keep_shape(SHAPE) is None
        earlier.forget(A)
        earlier.sweep()

    def test_a_disk_that_has_no_links_is_copied_to(self, files, earlier, monkeypatch):
        def no_links(*args):
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", no_links)
        earlier_job(files)
        output, _ = earlier.keep_output(A, f"model_{A}.stl")
        assert files.blobs.read(output) == b"model"

    def test_a_record_that_the_system_does_not_give_stays_where_it_is(self, files, earlier, monkeypatch, caplog):
        """And all that belongs to it; another day it may be read."""
        earlier_job(files)
        fill(files, B)
        plain = Path.read_bytes

        def refuse(path):
            if path.name == "job.json":
                raise PermissionError(13, "Permission denied")
            return plain(path)

        files.close()
        files = Files(files.data_dir, files.uploads_dir, files.outputs_dir)
        with monkeypatch.context() as locked:
            locked.setattr(Path, "read_bytes", refuse)
            earlier = Earlier(files)
            assert earlier.records() == []
            files.sweep()
            earlier.sweep()
        files.close()
        assert "Permission denied" in caplog.text
        assert earlier_names(A) | everything(B) == names(files.data_dir)

    @pytest.mark.parametrize("torn", [b"", b'{"delivery": {"shape_k', b"\x00" * 300])
    def test_while_a_torn_record_lies_aside_no_shape_is_swept(self, files, earlier, tmp_path, torn):
        earlier_job(files, record=torn)
        fill(files, B)
        earlier.set_aside(A)
        earlier.sweep()
        assert shape_name() in names(tmp_path)

    def test_a_shape_that_is_named_aside_stays(self, files, earlier, tmp_path):
        other = f"shape:{'6' * 64}"
        earlier_job(files, A)
        earlier_job(files, B, shape=other)
        earlier.set_aside(A)
        files.index.save_job(B, b"record", None, None)
        earlier.forget(B)
        earlier.sweep()
        assert shape_name() in names(tmp_path)
        assert shape_name(other) not in names(tmp_path)


class TestFolders:
    def test_they_may_lie_anywhere(self, tmp_path):
        files = Files(tmp_path / "data", tmp_path / "u" / "p", tmp_path / "o")
        fill(files)
        files.save(files.outputs_dir / A / "job.json", b"{}")
        assert names(tmp_path / "u") == {f"p/{A}.png", f"p/{A}.back.png"}
        Earlier(files).set_aside(A)
        assert names(tmp_path / "u") == set()
        Earlier(files).take_back(A)
        assert names(tmp_path / "u") == {f"p/{A}.png", f"p/{A}.back.png"}
        files.close()

    def test_all_three_may_be_one(self, tmp_path):
        files = Files(tmp_path, tmp_path, tmp_path)
        fill(files)
        files.sweep()
        assert files.upload(f"{A}.png").exists()
        with pytest.raises(DataFolderError):
            Files(tmp_path, tmp_path, tmp_path)
        files.close()
        Files(tmp_path, tmp_path, tmp_path).close()

    def test_a_link_is_the_folder_that_it_leads_to(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
        held = Files(tmp_path / "real", tmp_path / "real" / "u", tmp_path / "real" / "o")
        with pytest.raises(DataFolderError):
            Files(tmp_path / "link", tmp_path / "u", tmp_path / "o")
        held.close()
