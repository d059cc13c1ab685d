"""Contents: each once, checked on first use, kept while anybody names or holds them, gone when nobody does."""

import errno
import os

import pytest
from faults import (
    Disk,
    change_bytes,
    contents,
    digest,
    drop_job,
    elsewhere,
    fails,
    folders,
    full,
    name_by_job,
    result,
    unreadable,
)

from store.disk import Disk as DiskTier

DATA, OTHER = b"a result that took minutes", b"another one"
SHA = digest(DATA)


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path / "results")


@pytest.fixture
def files(tmp_path, disk):
    with folders(tmp_path, disk) as files:
        yield files


@pytest.fixture
def blobs(files):
    return files.blobs


@pytest.fixture
def restart(tmp_path):
    """The folders in another process."""
    open_now = []

    def begin(before):
        before.close()
        files = folders(tmp_path, Disk(tmp_path / "results"))
        open_now.append(files)
        return files.__enter__()

    yield begin
    for files in open_now:
        files.__exit__(None, None, None)


def read(blobs, data=DATA, size=None):
    """By every way to read: all of them agree."""
    found = blobs.read(digest(data), size)
    stream = blobs.open(digest(data), len(data) if size is None else size)
    if stream is not None:
        with stream:
            assert stream.read() == found
    return found


def reads(disk):
    return [call for call, _ in disk.calls].count("read")


class TestKeeping:
    def test_a_content_is_there_once_whoever_names_it(self, files, disk):
        for job_id in ("a", "b"):
            name_by_job(files, job_id, DATA)
        DiskTier(files, 1).put("key", result(DATA.decode()), None)
        assert [call for call, _ in disk.calls].count("write") == 1
        assert contents(files) == {SHA}

    def test_it_stays_until_the_last_who_names_it_is_gone(self, files, blobs):
        tier = DiskTier(files, 1)
        name_by_job(files, "a", DATA)
        name_by_job(files, "b", OTHER, shape=DATA)
        tier.put("key", result(DATA.decode()), None)
        drop_job(files, "a")
        tier.delete("key")
        assert read(blobs) == DATA
        drop_job(files, "b")
        assert contents(files) == set()

    def test_what_is_there_costs_the_bytes_of_nobody(self, files, blobs):
        name_by_job(files, "a", DATA)
        with blobs.holding((SHA, lambda: pytest.fail("its bytes are not needed"))):
            pass
        assert contents(files) == {SHA}

    def test_bytes_that_are_not_to_be_had_are_missing_until_they_are(self, files, blobs):
        with blobs.holding((digest(OTHER), OTHER), (SHA, lambda: None)):
            files.index.save_job("a", b"{}", digest(OTHER), SHA)
        assert blobs.missing == {SHA}
        with blobs.holding((SHA, DATA)):
            pass
        assert (blobs.missing, read(blobs)) == (set(), DATA)

    def test_where_the_first_cannot_be_kept_the_body_does_not_run(self, files, blobs, disk):
        for moment in ("write", "written", "rename", "sync_folder"):
            for error in (full(), unreadable()):
                disk.at[moment] = [fails(error)]
                with pytest.raises(OSError), blobs.holding((SHA, DATA)):  # noqa: PT011
                    pytest.fail("it is not there")
                assert contents(files) == set(), "and nothing is left"

    def test_a_second_one_that_does_not_fit_is_missing(self, files, blobs, disk):
        disk.at["write"] = [lambda: None, fails(full())]
        name_by_job(files, "a", DATA, shape=OTHER)
        assert (contents(files), blobs.missing) == ({SHA}, {digest(OTHER)})
        disk.at["write"] = [lambda: None, fails(unreadable())]
        with (
            pytest.raises(OSError, match="Input/output"),
            blobs.holding((digest(b"third"), b"third"), (SHA[::-1], b"")),
        ):
            pytest.fail("of that nobody knows what it means")

    def test_what_the_body_did_not_name_after_all_goes_again(self, files, blobs):
        """The job was cancelled, or the cache cleared, while the bytes were on their way to the disk."""
        with blobs.holding((SHA, DATA), (digest(OTHER), OTHER)):
            files.index.save_job("a", b"{}", digest(OTHER), None)
        assert contents(files) == {digest(OTHER)}
        with pytest.raises(KeyError), blobs.holding((SHA, DATA)):
            raise KeyError
        assert contents(files) == {digest(OTHER)}


class TestHolding:
    def test_what_is_given_up_meanwhile_goes_at_the_end_unless_it_is_named_by_then(self, files, blobs):
        for named in (True, False):
            name_by_job(files, "a", DATA)
            with blobs.holding((SHA, DATA)):
                drop_job(files, "a")
                assert read(blobs) == DATA
                if named:
                    files.index.save_job("b", b"{}", SHA, None)
            assert contents(files) == ({SHA} if named else set())
            drop_job(files, "b")

    def test_of_two_who_hold_it_the_last_one_counts(self, files, blobs):
        name_by_job(files, "a", DATA)
        with blobs.holding((SHA, DATA)):
            with blobs.holding((SHA, DATA)):
                drop_job(files, "a")
            assert read(blobs) == DATA
        assert contents(files) == set()

    def test_nothing_deletes_it(self, files, blobs):
        with blobs.holding((SHA, DATA)):
            assert (blobs.drop([SHA]), blobs.size(SHA)) == (0, 0)
            blobs.release([SHA])
            blobs.sweep()
            assert DiskTier(files, 1).make_room(blobs.path(SHA), 10**15) is False
            assert read(blobs) == DATA
            files.index.save_job("a", b"{}", SHA, None)
        assert read(blobs) == DATA

    def test_a_slow_write_keeps_nobody_from_anything(self, files, blobs, disk):
        """While the bytes of one are on their way another thread does all that there is to do, with others' and with
        the same."""
        tier = DiskTier(files, 1)
        name_by_job(files, "old", OTHER)

        def others():
            tier.put("key", result("a third"), None)
            assert tier.get("key").data == b"a third"
            name_by_job(files, "same", DATA)
            tier.delete("key")
            drop_job(files, "old")
            blobs.sweep()

        for moment in ("write", "written", "rename", "sync_folder"):
            disk.at[moment] = [elsewhere(others)]
            name_by_job(files, "mine", DATA)
            assert contents(files) == {SHA}
            drop_job(files, "same")
            assert read(blobs) == DATA
            drop_job(files, "mine")
            assert contents(files) == set()

    def test_a_name_that_is_not_safe_yet_is_no_reason_to_rely_on_it(self, files, blobs, disk):
        """One thread has renamed it and not yet synced the folder; another is about to name it in the index."""
        calls = []

        def second():
            name_by_job(files, "b", DATA)
            calls.extend(call for call, _ in disk.calls)

        disk.at["sync_folder"] = [elsewhere(second)]
        name_by_job(files, "a", DATA)
        assert calls[-1] == "sync_folder", "its own, before its row was written"


class TestDamage:
    DAMAGES = {  # noqa: RUF012
        "flipped": lambda path: change_bytes(path, b"A" + DATA[1:]),
        "truncated": lambda path: change_bytes(path, DATA[:-1]),
        "longer": lambda path: change_bytes(path, DATA + b"\0"),
        "empty": lambda path: change_bytes(path, b""),
        "another": lambda path: change_bytes(path, OTHER),
        "gone": os.remove,
    }

    @pytest.fixture(params=DAMAGES)
    def damage(self, request):
        return self.DAMAGES[request.param]

    @pytest.fixture
    def named(self, files):
        """By a result and by a job."""
        name_by_job(files, "a", DATA)
        DiskTier(files, 1).put("key", result(DATA.decode()), None)
        return files

    @pytest.mark.parametrize("way", ["read", "open"])
    def test_it_is_noticed_on_first_use_dropped_and_counted_once(self, named, restart, damage, way):
        files = restart(named)
        damage(files.blobs.path(SHA))
        use = {"read": lambda: files.blobs.read(SHA, len(DATA)), "open": lambda: files.blobs.open(SHA, len(DATA))}
        for _ in range(3):
            assert use[way]() is None
            assert files.blobs.damaged == 1
        assert contents(files) == set()
        assert DiskTier(files, 1).get("key") is None
        assert files.blobs.missing == {SHA}, "of the job"
        assert files.index.job_names(SHA)

    @pytest.mark.parametrize("way", ["read", "open"])
    def test_it_is_noticed_when_it_happens_under_our_eyes(self, named, damage, way):
        files = named
        assert read(files.blobs) == DATA
        damage(files.blobs.path(SHA))
        found = files.blobs.read(SHA, len(DATA)) if way == "read" else files.blobs.open(SHA, len(DATA))
        assert found is None
        assert (files.blobs.damaged, contents(files)) == (1, set())

    def test_then_it_is_made_again_and_everybody_has_it(self, named, restart, damage):
        files = restart(named)
        damage(files.blobs.path(SHA))
        name_by_job(files, "b", DATA)  # has the bytes, and finds the file not to be what it was
        assert read(files.blobs) == DATA
        assert files.blobs.missing == set()
        assert files.index.job_names(SHA)

    def test_a_sound_one_is_read_once_for_the_check(self, named, restart):
        files = restart(named)
        for _ in range(3):
            with files.blobs.open(SHA, len(DATA)) as stream:
                assert stream.read() == DATA
        assert reads(files.system) == 0, "the check is part of the first use"
        assert files.blobs.read(SHA) == DATA
        assert (reads(files.system), files.blobs.damaged) == (1, 0)

    def test_a_size_that_is_not_the_row_s_is_damage_too(self, named):
        assert named.blobs.read(SHA) == DATA
        with pytest.MonkeyPatch.context() as forgotten:
            forgotten.setattr(named.blobs, "_checked", {})
            assert named.blobs.read(SHA, len(DATA) + 1) is None
        assert named.blobs.damaged == 1

    def test_what_cannot_be_read_just_now_is_not_damaged(self, named, disk):
        disk.at["read"] = [fails(unreadable()), fails(PermissionError(errno.EACCES, "denied"))]
        assert [named.blobs.read(SHA) for _ in range(3)] == [None, None, DATA]
        assert (named.blobs.damaged, named.blobs.missing) == (0, set())

    def test_what_had_to_make_room_was_never_damaged(self, named):
        named.blobs.drop([SHA])
        for _ in range(3):
            assert read(named.blobs) is None
        assert (named.blobs.damaged, named.blobs.missing) == (0, {SHA})

    def test_what_nobody_names_any_more_was_never_damaged(self, named):
        """Somebody looked for it, and it was deleted before they read it."""
        drop_job(named, "a")
        DiskTier(named, 1).delete("key")
        assert read(named.blobs) is None
        assert named.blobs.damaged == 0

    @pytest.mark.parametrize("damage_first", [DAMAGES["gone"], DAMAGES["another"]], ids=["gone", "changed"])
    def test_who_found_damage_does_not_drop_what_another_has_made_since(self, named, restart, damage_first):
        files = restart(named)
        damage_first(files.blobs.path(SHA))

        lose = files.blobs._lose

        def seen(*what):
            """The damage is seen, and before anything is done about it another thread has made it again."""
            files.blobs._lose = lose
            elsewhere(lambda: name_by_job(files, "b", DATA))()
            lose(*what)

        files.blobs._lose = seen
        files.blobs.read(SHA)
        assert read(files.blobs) == DATA
        assert files.blobs.missing == set()


class TestSweeping:
    def test_what_nobody_names_goes_and_what_is_missing_is_known(self, files, blobs, restart):
        name_by_job(files, "a", DATA, shape=OTHER)
        (files.data_dir / "results" / ("0" * 64)).write_bytes(b"its process ended before its row was written")
        (files.data_dir / "results" / "notes.txt").write_text("a user's own")
        blobs.path(digest(OTHER)).unlink()
        files = restart(files)
        files.sweep()
        assert contents(files) == {SHA, "notes.txt"}
        assert files.blobs.missing == {digest(OTHER)}

    def test_a_file_that_cannot_be_deleted_goes_with_the_next_start(self, files, blobs, disk, restart):
        name_by_job(files, "a", DATA)
        disk.at["remove"] = [fails(PermissionError(errno.EACCES, "it is being downloaded, on Windows"))]
        drop_job(files, "a")
        assert contents(files) == {SHA}
        files = restart(files)
        files.sweep()
        assert contents(files) == set()

    def test_half_written_files_go_at_the_start(self, files, restart):
        (files.data_dir / "results" / ".orfeas-0123456789abcdef.tmp").write_bytes(b"half")
        assert contents(restart(files)) == set()
