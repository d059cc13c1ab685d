"""Files by name: whole or not there, the job's own and nobody else's, set aside rather than lost."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from live_server import files_kept

from errors import DataFolderError
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


def fill(files, job_id=A, shape=SHAPE):
    """All that a job can have."""
    files.save_job(job_id, {f"{job_id}.png": b"front", f"{job_id}.back.png": b"back"}, record(shape))
    files.place_output(files.stage_output(job_id, b"model"), job_id, f"model_{job_id}.stl")
    files.save(files.new_mask(job_id, "f" * 64), b"mask")
    files.keep_mask(job_id, "f" * 64)
    files.save(files.thumbnail(job_id), b"thumbnail")
    files.save_shape(shape, b"mesh")


def record(shape=SHAPE):
    return f'{{"delivery": {{"shape_key": "{shape}"}}}}'.encode()


def everything(job_id=A):
    return {
        f"uploads/{job_id}.png",
        f"uploads/{job_id}.back.png",
        f"outputs/{job_id}/job.json",
        f"outputs/{job_id}/model_{job_id}.stl",
        f"outputs/{job_id}/mask-ffffffffffffffff.png",
        f"outputs/{job_id}/thumbnail",
    }


class TestSaving:
    def test_a_file_is_replaced_in_one_step(self, files, monkeypatch):
        path = files.upload("a.png")
        files.save(path, b"before")
        for call in ("write_bytes", "replace"):

            def fail(*args):
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as broken:
                broken.setattr(*((Path, call) if call == "write_bytes" else (os, call)), fail)
                with pytest.raises(OSError, match="No space"):
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
        for folder in (files.uploads_dir, files.outputs_dir, files.shapes_dir):
            shutil.rmtree(folder)
        files.place_output(files.stage_output(B, b"model"), B, f"model_{B}.stl")
        fill(files)
        assert everything() <= names(files.outputs_dir.parent)

    def test_a_new_format_takes_the_place_of_the_old(self, files):
        for kind in ("stl", "glb", "glb"):
            files.place_output(files.stage_output(A, kind.encode()), A, f"model_{A}.{kind}")
        assert names(files.outputs_dir) == {f"{A}/model_{A}.glb"}

    def test_what_is_staged_and_not_wanted_leaves_nothing(self, files):
        staged = files.stage_output(A, b"model")
        assert staged.exists()
        staged.unlink()
        assert names(files.outputs_dir) == set()

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

    def test_shapes(self, files):
        assert (files.shape(SHAPE), files.has_shape(SHAPE)) == (None, False)
        files.save_shape(SHAPE, b"mesh")
        assert (files.shape(SHAPE), files.has_shape(SHAPE)) == (b"mesh", True)
        for _ in range(2):
            files.forget_shape(SHAPE)
        assert not files.has_shape(SHAPE)


class TestForgetting:
    def test_all_that_a_job_has_goes_and_nothing_else(self, files, tmp_path):
        fill(files, A)
        fill(files, B)
        files.forget_job(A)
        assert names(tmp_path) == everything(B) | {f"shapes/{'5' * 64}.npz"}
        assert not (files.outputs_dir / A).exists()
        files.forget_job(A)

    def test_a_user_s_own_file_stays(self, files, tmp_path):
        fill(files, A)
        mine = files.outputs_dir / A / "notes.txt"
        mine.write_text("mine")
        files.forget_job(A)
        assert names(tmp_path) == {f"outputs/{A}/notes.txt", f"shapes/{'5' * 64}.npz"}

    def test_what_was_half_written_goes_at_the_next_start(self, tmp_path):
        places = [tmp_path / "uploads", tmp_path / "outputs", tmp_path / "outputs" / A, tmp_path / "shapes"]
        for place in places:
            place.mkdir(parents=True)
            (place / ".orfeas-0123.tmp").write_bytes(b"half")
        Files(tmp_path, tmp_path / "uploads", tmp_path / "outputs").close()
        assert names(tmp_path) == set()


class TestRecords:
    def test_only_folders_of_jobs_have_records(self, files):
        fill(files)
        for name in ("mine", A.upper(), f"{A}x"):
            files.save(files.outputs_dir / name / "job.json", b"{}")
        assert [(each.job_id, each.data, each.aside) for each in files.records()] == [(A, record(), False)]

    def test_aside_and_back_again(self, files, tmp_path):
        fill(files, A)
        fill(files, B)
        (files.outputs_dir / A / "notes.txt").write_text("mine")
        before = names(tmp_path)
        folder = files.set_aside(A)
        assert folder == tmp_path / "set-aside" / A
        assert not any(A in name and not name.startswith("set-aside/") for name in names(tmp_path))
        assert len(names(tmp_path)) == len(before)
        assert [(each.job_id, each.aside) for each in files.records()] == [(B, False), (A, True)]
        files.take_back(A)
        assert names(tmp_path) == before

    def test_a_record_that_the_system_does_not_give_stays_where_it_is(self, files, monkeypatch, caplog):
        fill(files)

        def refuse(path):
            raise PermissionError(13, "Permission denied")

        with monkeypatch.context() as locked:
            locked.setattr(Path, "read_bytes", refuse)
            assert files.records() == []
            files.sweep()
        assert "Permission denied" in caplog.text
        assert everything() | {f"shapes/{'5' * 64}.npz"} == names(files.outputs_dir.parent)

    @pytest.mark.parametrize("torn", [b"", b'{"delivery": {"shape_k', b"\x00" * 300])
    def test_while_a_torn_record_lies_aside_no_shape_is_swept(self, files, torn):
        fill(files)
        files.save_record(A, torn)
        files.set_aside(A)
        orphan = files.upload(f"{B}.png")
        orphan.write_bytes(b"x")
        files.sweep()
        assert files.has_shape(SHAPE)
        assert not orphan.exists()

    def test_a_job_whose_shape_is_named_aside_leaves_it_there(self, files):
        fill(files, A)
        fill(files, B)
        files.set_aside(A)
        files.sweep()
        files.forget_job(B)
        files.forget_shape(SHAPE)
        assert files.has_shape(SHAPE)

    def test_a_sweep_takes_what_no_record_names(self, files, tmp_path):
        fill(files)
        for path in (files.upload(f"{B}.png"), files.upload(f"{B}.left.png"), files.upload(f"{A}x.png")):
            path.write_bytes(b"x")
        files.save_shape(f"shape:{'6' * 64}", b"x")
        files.sweep()
        assert names(tmp_path) == everything() | {f"uploads/{A}x.png", f"shapes/{'5' * 64}.npz"}


class TestFolders:
    def test_they_may_lie_anywhere(self, tmp_path):
        files = Files(tmp_path / "data", tmp_path / "u" / "p", tmp_path / "o")
        fill(files)
        assert names(tmp_path / "u") == {f"p/{A}.png", f"p/{A}.back.png"}
        files.set_aside(A)
        files.take_back(A)
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
