"""Odd models, odd folders, odd moments: what each of them used to break."""

import multiprocessing
import os
from dataclasses import replace

import numpy as np
import pytest
import shapes
from in_process import Stage, house, puppet
from live_server import fresh_png

from errors import DataFolderError
from models.base import GenerationCancelledError
from store.files import Files
from store.lock import FolderLock


def returning(stage, mesh):
    kind = puppet(stage)
    kind.generate = lambda self, *_: stage.runs.append(mesh) or mesh
    return kind


BOX = shapes.box((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    "mesh",
    [
        None,
        replace(BOX, faces=BOX.faces[:0]),
        replace(BOX, vertices=BOX.vertices * np.float32(np.nan)),
        replace(BOX, faces=BOX.faces + 100),
        replace(BOX, faces=BOX.faces - 1),
        replace(BOX, vertices=BOX.vertices[:, :2]),
    ],
    ids=["nothing", "no faces", "no numbers", "vertices beyond", "vertices before", "two dimensions"],
)
def test_nonsense_from_a_model_fails_the_job_and_is_not_kept(tmp_path, mesh):
    """It was cached as a shape, and later requests answered 500 without asking the model again."""
    stage, png = Stage(), fresh_png()
    with house(tmp_path, returning(stage, mesh)) as client:
        for count in (1, 2):
            status = client.make(png)
            assert status["status"] == "failed"
            assert status["error_type"] in ("bad_shape", "empty_mesh")
            assert len(stage.runs) == count
        assert client.stats()["current_items"] == 0


def test_a_model_that_gives_up_by_itself_is_asked_once(tmp_path):
    """It was asked again without end."""
    stage = Stage(hold=True)
    with house(tmp_path, puppet(stage)) as client:
        job_id = client.upload(fresh_png())
        client.generate(job_id)
        stage.next_run().end(GenerationCancelledError())
        assert client.settled(job_id)["status"] == "failed"
        assert len(stage.runs) == 1


def test_another_format_is_of_the_size_that_was_delivered(tmp_path):
    """A job started again with another size, and cancelled, gave its other formats in the size it never had."""
    stage = Stage()
    with house(tmp_path, puppet(stage)) as client:
        done = client.make(fresh_png(), format="stl")
        expected = client.get(f"/api/download/{done['job_id']}/model.ply").content
        stage.hold = True
        assert client.generate(done["job_id"], dimensions={"width": 10}, seed=5).status_code == 200
        stage.next_run()
        running = client.status(done["job_id"])
        assert (running["download_url"], running["mesh"]) == (None, None)  # those of the earlier run were told
        client("DELETE", f"/api/jobs/{done['job_id']}")
        assert client.get(f"/api/download/{done['job_id']}/model.ply").content == expected


def test_another_front_makes_a_new_job_of_it(tmp_path):
    """It stayed completed, with the model of the picture before."""
    with house(tmp_path, puppet(Stage())) as client:
        done = client.make(fresh_png())
        client.post(f"/api/upload-image?job_id={done['job_id']}", files={"image": ("b.png", fresh_png())})
        status = client.status(done["job_id"])
        assert (status["status"], status["mesh"], status["download_url"]) == ("uploaded", None, None)


@pytest.mark.parametrize("header", ["items=0-1", "bytesx=0-1", "bytes=x", "bytes=0-1,4-5", "nonsense"])
def test_a_range_that_is_not_understood_is_ignored(tmp_path, header):
    with house(tmp_path, puppet(Stage())) as client:
        done = client.make(fresh_png())
        answer = client.get(done["download_url"], headers={"Range": header})
        assert (answer.status_code, len(answer.content)) == (200, done["file_size"])


def test_a_start_without_its_folder_of_records_deletes_nothing(tmp_path):
    """Started once with another OUTPUTS_DIR, all uploads and shapes were gone."""
    with house(tmp_path, puppet(Stage())) as client:
        done = client.make(fresh_png())
    with house(tmp_path, puppet(Stage()), OUTPUTS_DIR=str(tmp_path / "elsewhere")):
        pass
    with house(tmp_path, puppet(Stage())) as client:
        assert client.get(done["preview_url"]).status_code == 200
        assert client.get(f"/api/download/{done['job_id']}/model.glb").status_code == 200


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataFolderError, match="file"):
        Files(tmp_path / "file", tmp_path / "u", tmp_path / "o")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_does_not_keep_the_folder(tmp_path):
    lock, end = FolderLock(tmp_path), multiprocessing.get_context("fork").Event()
    child = multiprocessing.get_context("fork").Process(target=end.wait, args=(60,))
    child.start()
    try:
        lock.release()
        FolderLock(tmp_path).release()
    finally:
        end.set()
        child.join()
