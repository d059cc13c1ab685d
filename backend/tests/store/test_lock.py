"""One process holds a folder; its lock ends with it."""

import os
import signal
import subprocess
import sys

import pytest
from live_server import BACKEND, PATIENCE

from errors import DataFolderError
from store.lock import NAME, FolderLock

HOLDER = """
import sys
from pathlib import Path
from store.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=BACKEND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait(PATIENCE)
    process.stdin.close()
    process.stdout.close()


def test_it_is_held_until_it_is_released_and_as_often_as_one_likes(tmp_path):
    for _ in range(2):
        lock = FolderLock(tmp_path)
        with pytest.raises(DataFolderError):
            FolderLock(tmp_path)
        lock.release()
        lock.release()


def test_two_folders_are_two_locks(tmp_path):
    locks = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        locks.append(FolderLock(tmp_path / name))
    for lock in locks:
        lock.release()


def test_who_comes_second_is_told_who_holds_it(tmp_path, holder):
    with pytest.raises(DataFolderError) as refused:
        FolderLock(tmp_path)
    assert str(refused.value) == (
        f"the folder {tmp_path} is in use by process {holder.pid}: stop it, or set another DATA_DIR"
    )
    assert (tmp_path / NAME).read_text() == str(holder.pid), "who is refused changes nothing"


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "end"])
def test_it_ends_with_its_process_however_that_ends(tmp_path, holder, how):
    if how == "end":
        holder.stdin.close()
    else:
        holder.send_signal(getattr(signal, how))
    holder.wait(PATIENCE)
    lock = FolderLock(tmp_path)
    assert (tmp_path / NAME).read_text() == str(os.getpid())
    lock.release()


def test_what_an_earlier_process_left_in_it_does_not_matter(tmp_path):
    (tmp_path / NAME).write_text("99999999 and more that is no number")
    lock = FolderLock(tmp_path)
    assert (tmp_path / NAME).read_text() == str(os.getpid())
    (tmp_path / NAME).write_text("no number")
    with pytest.raises(DataFolderError, match="in use by another process"):
        FolderLock(tmp_path)
    lock.release()


def test_a_process_that_is_started_from_here_does_not_keep_it(tmp_path):
    """A child that outlives the server, a model's runner say, must not hold its folder."""
    lock = FolderLock(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    lock.release()
    FolderLock(tmp_path).release()
    child.communicate()
