"""A file is kept whole or not at all, for good, and on a full disk after others have made room."""

import errno
import os

import pytest
from faults import Disk, fails, full

from errors import DiskFullError, StorageError
from store.filesystem import FileSystem, clear_leftovers, is_full, storage_error, told

MOMENTS = ["write", "written", "rename"]
"""Up to here the old file stays; from the renaming on the new one is in its place."""


@pytest.fixture
def disk():
    return Disk()


def names(folder):
    return {path.name for path in folder.iterdir()}


class TestKeeping:
    def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_call_ends(self, tmp_path, disk):
        path = tmp_path / "file"
        disk.keep(path, b"bytes")
        calls = [call for call, _ in disk.calls]
        assert calls == ["write", "written", "rename", "sync_folder"]
        assert disk.calls[-1] == ("sync_folder", tmp_path)
        assert (path.read_bytes(), names(tmp_path)) == (b"bytes", {"file"})

    @pytest.mark.parametrize("moment", MOMENTS)
    @pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS])
    @pytest.mark.parametrize("before", [None, b"before"])
    def test_where_it_fails_nothing_has_changed_and_nothing_is_left(self, tmp_path, disk, moment, code, before):
        path = tmp_path / "file"
        if before is not None:
            path.write_bytes(before)
        disk.at[moment] = [fails(OSError(code, "failed"))]
        with pytest.raises(OSError, match="failed"):
            disk.keep(path, b"after")
        assert names(tmp_path) == ({"file"} if before else set())
        assert before is None or path.read_bytes() == before

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_whoever_interrupts_it_leaves_nothing(self, tmp_path, disk, moment):
        def interrupt():
            raise KeyboardInterrupt

        disk.at[moment] = [interrupt]
        with pytest.raises(KeyboardInterrupt):
            disk.keep(tmp_path / "file", b"after")
        assert names(tmp_path) == set()

    def test_where_only_the_name_is_not_safe_the_file_is_whole_and_the_caller_is_told(self, tmp_path, disk):
        disk.at["sync_folder"] = [fails(OSError(errno.EIO, "failed"))]
        with pytest.raises(OSError, match="failed"):
            disk.keep(tmp_path / "file", b"after")
        assert ((tmp_path / "file").read_bytes(), names(tmp_path)) == (b"after", {"file"})

    def test_a_folder_that_is_not_there_is_made_and_its_own_name_is_safe_too(self, tmp_path, disk):
        disk.keep(tmp_path / "folder" / "file", b"bytes")
        synced = [path for call, path in disk.calls if call == "sync_folder"]
        assert synced == [tmp_path, tmp_path / "folder"]
        assert names(tmp_path / "folder") == {"file"}

    def test_two_who_keep_one_name_do_not_meet(self, tmp_path, disk):
        """The second begins and ends in the middle of the first: whoever is last to rename has it, whole."""
        path = tmp_path / "file"
        disk.at["rename"] = [lambda: disk.keep(path, b"second")]
        disk.keep(path, b"first")
        assert (path.read_bytes(), names(tmp_path)) == (b"first", {"file"})


class TestAFullDisk:
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
    @pytest.mark.parametrize("moment", MOMENTS)
    def test_others_make_room_until_it_fits(self, tmp_path, disk, moment, code):
        asked = []

        def make_room(path, size):
            asked.append((path, size, names(tmp_path)))
            return True

        disk.make_room = make_room
        disk.at[moment] = [fails(OSError(code, "full"))] * 3
        disk.keep(tmp_path / "file", b"bytes")
        assert asked == [(tmp_path / "file", 5, set())] * 3, "what was half-written is in nobody's way"
        assert (tmp_path / "file").read_bytes() == b"bytes"

    def test_once_there_is_nothing_more_to_delete_the_caller_is_told(self, tmp_path, disk):
        room = [True, True, False]
        disk.make_room = lambda path, size: room.pop(0)
        disk.at["written"] = [fails(full())] * 9
        with pytest.raises(OSError) as refused:  # noqa: PT011
            disk.keep(tmp_path / "file", b"bytes")
        assert is_full(refused.value)
        assert (room, names(tmp_path)) == ([], set())

    def test_room_helps_against_nothing_else(self, tmp_path, disk):
        disk.make_room = lambda path, size: pytest.fail("nobody asked for room")
        disk.at["write"] = [fails(OSError(errno.EIO, "failed"))]
        with pytest.raises(OSError, match="failed"):
            disk.keep(tmp_path / "file", b"bytes")

    def test_room_is_made_for_a_folder_too(self, tmp_path, disk, monkeypatch):
        asked, mkdir = [], type(tmp_path).mkdir

        def refuse(path, *args, **kwargs):
            monkeypatch.undo()
            raise full(path)

        monkeypatch.setattr(type(tmp_path), "mkdir", refuse)
        disk.make_room = lambda path, size: asked.append(path) or True
        disk.keep(tmp_path / "folder" / "file", b"bytes")
        assert asked == [tmp_path / "folder" / "file"]
        assert type(tmp_path).mkdir is mkdir
        assert names(tmp_path / "folder") == {"file"}


class TestWhatTheSystemIsAskedFor:
    """Not a note of our own: the calls that reach the system."""

    @pytest.fixture
    def asked(self, monkeypatch):
        calls = []

        def watch(name, describe):
            real = getattr(os, name)

            def call(*args, **kwargs):
                calls.append((name, *describe(*args)))
                return real(*args, **kwargs)

            monkeypatch.setattr(os, name, call)

        watch("fsync", lambda descriptor: (os.path.realpath(f"/proc/self/fd/{descriptor}"),))
        watch("replace", lambda source, target: (str(source), str(target)))
        return calls

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="which file a number stands for is Linux's to say")
    def test_the_file_is_synced_then_renamed_then_its_folder_is_synced(self, tmp_path, asked):
        FileSystem().keep(tmp_path / "file", b"bytes")
        [(_, written), (_, source, target), (_, folder)] = asked
        assert [call[0] for call in asked] == ["fsync", "replace", "fsync"]
        assert written == source
        assert (target, folder) == (str(tmp_path / "file"), str(tmp_path))

    def test_all_bytes_have_left_the_process_before_the_sync(self, tmp_path, monkeypatch):
        sizes, fsync = [], os.fsync

        def watch(descriptor):
            sizes.append(os.fstat(descriptor).st_size)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", watch)
        FileSystem().write(tmp_path / "file", b"x" * 1_000_001)
        assert sizes == [1_000_001]

    def test_a_temporary_name_is_never_taken_twice(self, tmp_path):
        FileSystem().write(tmp_path / "file", b"bytes")
        with pytest.raises(FileExistsError):
            FileSystem().write(tmp_path / "file", b"others")


def test_leftovers_go_wherever_a_server_writes_and_nothing_else_does(tmp_path):
    kept = ["picture.png", ".orfeas-0123.txt", "orfeas-0123.tmp"]
    for folder in (tmp_path, tmp_path / "job"):
        folder.mkdir(exist_ok=True)
        for name in [*kept, ".orfeas-0123456789abcdef.tmp"]:
            (folder / name).write_bytes(b"x")
    clear_leftovers(tmp_path)
    assert names(tmp_path) == {*kept, "job"}
    assert names(tmp_path / "job") == {*kept}


def test_a_user_is_told_that_the_disk_is_full_or_what_else_it_refused():
    assert isinstance(storage_error(full()), DiskFullError)
    assert isinstance(storage_error(OSError(errno.EDQUOT, "quota")), DiskFullError)
    refused = storage_error(OSError(errno.EACCES, "Permission denied", "/a/secret/path"))
    assert isinstance(refused, StorageError)
    assert str(refused) == "a file could not be read or written: Permission denied", "and not where it lies"
    with pytest.raises(DiskFullError), told():
        raise full()


def test_a_file_that_is_not_there_is_removed_without_a_word(tmp_path):
    FileSystem().remove(tmp_path / "never")
