"""The index: all of a change or nothing, on the disk when the call returns; a damaged one costs what was damaged."""

import errno
import logging
import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from faults import contents, digest, elsewhere, fails, folders, name_by_job, result, unreadable

from errors import DataFolderError
from store import index as index_module
from store.disk import Disk
from store.index import SCHEMA_VERSION, Index

ROWS = 24
"""Results and jobs in a folder that is damaged."""


@pytest.fixture
def index(tmp_path):
    index = Index(tmp_path / "index.db", tmp_path / "set-aside")
    yield index
    index.close()


def ids(index):
    return [job_id for job_id, _ in index.jobs()]


def reopened(index):
    """What another process finds after this one was killed."""
    path = index._path
    folder = path.parent / "copy"
    folder.mkdir()
    for ending in ("", "-wal"):
        if (source := path.with_name(path.name + ending)).exists():
            shutil.copy(source, folder / source.name)
    return Index(folder / path.name, folder / "set-aside")


class TestTransactions:
    def test_all_or_nothing(self, index):
        index.save_job("kept", b"1", None, None)

        def half(db):
            db.execute("DELETE FROM jobs")
            db.execute("INSERT INTO numbers VALUES ('age', 1)")
            raise KeyError("in the middle")

        with pytest.raises(KeyError):
            index.change(half)
        assert ids(index) == ["kept"]
        assert index.rows("SELECT * FROM numbers") == []

    def test_a_change_within_a_change_is_part_of_it(self, index):
        def outer(db):
            index.save_job("inner", b"1", None, None)
            raise KeyError("in the outer")

        with pytest.raises(KeyError):
            index.change(outer)
        assert ids(index) == []
        assert index.change(lambda db: index.save_job("inner", b"1", None, None) or "done") == "done"
        assert ids(index) == ["inner"]

    def test_when_the_call_returns_it_is_there_for_whoever_comes_after_a_kill(self, index):
        for number in range(5):
            index.save_job(f"job {number}", b"record", None, None)
        after = reopened(index)
        assert ids(after) == ids(index) == [f"job {number}" for number in range(5)]
        after.close()

    def test_what_is_under_way_is_not_there_after_a_kill(self, index):
        index.save_job("kept", b"1", None, None)

        def killed_in_the_middle(db):
            db.execute("DELETE FROM jobs")
            found = reopened(index)
            assert ids(found) == ["kept"]
            found.close()

        index.change(killed_in_the_middle)
        assert ids(index) == []

    def test_a_job_keeps_its_place(self, index):
        for job_id in ("a", "b", "c"):
            index.save_job(job_id, b"1", None, None)
        index.save_job("a", b"2", "f" * 64, None)
        assert index.jobs() == [("a", b"2"), ("b", b"1"), ("c", b"1")]
        assert index.named_by_jobs() == {"f" * 64}
        assert (index.names("f" * 64), index.job_names("f" * 64), index.names("0" * 64)) == (True, True, False)

    def test_a_question_that_cannot_be_answered_is_a_fault_of_the_disk(self, index):
        with pytest.raises(OSError, match="no such table"):
            index.rows("SELECT * FROM nowhere")
        with pytest.raises(OSError, match="the index"):
            index.change(lambda db: db.execute("INSERT INTO jobs (id) VALUES ('without a record')"))
        assert ids(index) == []

    def test_after_the_end_it_is_refused_in_the_same_words(self, tmp_path):
        index = Index(tmp_path / "index.db", tmp_path / "set-aside")
        index.close()
        for ask in (index.jobs, lambda: index.save_job("a", b"1", None, None)):
            with pytest.raises(OSError, match="the index"):
                ask()

    def test_the_settings_on_which_the_promise_rests(self, index):
        def pragma(name):
            return index.row(f"PRAGMA {name}")[0]

        assert (pragma("journal_mode"), pragma("synchronous"), pragma("secure_delete")) == ("wal", 1, 1)

    def test_of_what_was_deleted_nothing_is_left_in_the_files(self, tmp_path, index):
        secret = b"a picture of a school's class " * 40
        for number in range(300):
            index.save_job(f"job {number}", secret, None, None)
        index.change(lambda db: db.execute("DELETE FROM jobs"))
        index.wipe()
        assert not any(secret[:24] in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


class TestSyncing:
    @pytest.fixture
    def synced(self, monkeypatch):
        """Sizes of the log at each fsync that we ask for."""
        sizes, fsync = [], os.fsync

        def watch(descriptor):
            sizes.append(os.fstat(descriptor).st_size)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", watch)
        return sizes

    def test_all_that_was_committed_is_on_the_disk_after_one_fsync(self, index, tmp_path, synced):
        for number in range(3):
            index.save_job(f"job {number}", b"record", None, None)
        index.sync()
        assert synced == [(tmp_path / "index.db-wal").stat().st_size]
        index.sync()
        assert len(synced) == 1, "nothing is new"

    def test_who_comes_while_another_syncs_has_an_fsync_of_their_own(self, index, monkeypatch):
        """What was committed after the first had begun may have missed the disk."""
        calls, fsync = [], os.fsync

        def slow(descriptor):
            calls.append(descriptor)
            if len(calls) == 1:
                elsewhere(lambda: index.save_job("late", b"1", None, None))()
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", slow)
        index.save_job("early", b"1", None, None)
        index.sync()
        index.sync()
        index.sync()
        assert len(calls) == 2

    def test_where_it_fails_it_is_said_and_tried_again(self, index, monkeypatch, synced):
        index.save_job("a", b"1", None, None)
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", lambda descriptor: fails(unreadable())())
            with pytest.raises(OSError, match="Input/output"):
                index.sync()
        index.sync()
        assert len(synced) == 1

    def test_it_holds_across_a_log_that_begins_anew(self, index, tmp_path, synced):
        for turn in range(3):
            index.save_job(f"job {turn}", b"x" * 100_000, None, None)
            index.wipe()
            index.save_job(f"small {turn}", b"1", None, None)
            index.sync()
            assert synced[-1] == (tmp_path / "index.db-wal").stat().st_size > 0

    def test_after_the_end_there_is_nothing_to_do(self, tmp_path):
        index = Index(tmp_path / "index.db", tmp_path / "set-aside")
        index.save_job("a", b"1", None, None)
        index.close()
        index.sync()


class TestAFullDisk:
    """SQLite itself finds no room: its file may have no more pages."""

    @pytest.fixture
    def small(self, index):
        pages = index.row("PRAGMA page_count")[0]
        index.rows(f"PRAGMA max_page_count = {pages}")
        return index

    RECORD = b"x" * 20_000

    def test_it_is_an_error_of_a_full_disk_and_nothing_is_half_written(self, small):
        with pytest.raises(OSError) as refused:  # noqa: PT011
            small.save_job("a", self.RECORD, None, None)
        assert refused.value.errno == errno.ENOSPC
        assert ids(small) == []
        small.save_job("b", b"small", None, None)
        assert ids(small) == ["b"]

    def test_once_others_have_made_room_it_is_done_from_the_beginning(self, small):
        asked, runs = [], []

        def make_room(path, size):
            asked.append((path.name, size > 0))
            small.rows("PRAGMA max_page_count = 1000")
            return True

        small.make_room = make_room
        small.change(lambda db: runs.append(1) or db.execute("INSERT INTO numbers VALUES ('age', 1)"))
        assert (asked, runs) == ([], [1])

        def write(db):
            runs.append(2)
            db.execute("UPDATE numbers SET value = value + 1")
            db.execute("INSERT INTO jobs (id, record) VALUES ('a', ?)", (self.RECORD,))

        small.change(write)
        assert (asked, runs) == ([("index.db", True)], [1, 2, 2])
        assert small.rows("SELECT value FROM numbers") == [(2.0,)], "and not half of it twice"

    def test_where_there_is_no_more_room_to_be_made_it_is_said(self, small):
        room = [True, True, False]
        small.make_room = lambda path, size: room.pop(0)
        with pytest.raises(OSError) as refused:  # noqa: PT011
            small.save_job("a", self.RECORD, None, None)
        assert (refused.value.errno, room) == (errno.ENOSPC, [])


class TestAnotherVersion:
    def test_of_a_newer_one_the_start_is_refused_in_one_line_and_nothing_is_touched(self, tmp_path):
        path = tmp_path / "index.db"
        with closing(sqlite3.connect(path)) as db:
            db.executescript(f"CREATE TABLE of_a_later_kind (a); PRAGMA user_version = {SCHEMA_VERSION + 1};")
        (tmp_path / "results").mkdir()
        (tmp_path / "results" / ("0" * 64)).write_bytes(b"x")
        for _ in range(2):
            with pytest.raises(DataFolderError) as refused, folders(tmp_path):
                pass
            assert "newer ORFEAS" in str(refused.value)
            assert "\n" not in str(refused.value)
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("of_a_later_kind",)]
        assert not (tmp_path / "set-aside").exists()
        assert (tmp_path / "results" / ("0" * 64)).exists()

    def test_where_it_cannot_be_opened_nothing_is_set_aside(self, tmp_path):
        (tmp_path / "index.db").mkdir()
        with pytest.raises(DataFolderError) as refused:
            Index(tmp_path / "index.db", tmp_path / "set-aside")
        assert "cannot be used" in str(refused.value)
        assert not (tmp_path / "set-aside").exists()

    def test_a_comment_in_the_schema_is_none_of_its_facts(self, tmp_path, monkeypatch):
        Index(tmp_path / "index.db", tmp_path / "set-aside").close()
        monkeypatch.setattr(index_module, "_SCHEMA", index_module._SCHEMA.replace("-- of the bytes", "-- said anew"))
        Index(tmp_path / "index.db", tmp_path / "set-aside").close()
        assert not (tmp_path / "set-aside").exists()


def key(number):
    return f"file:{number:064x}"


def made(number):
    return result(f"result {number}", 300, sources=[digest(b"%d" % number)], shape=digest(b"shape %d" % number))


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """A folder with results, each named by a job, closed in order."""
    path = tmp_path_factory.mktemp("filled")
    with folders(path) as files:
        disk = Disk(files, 100)
        for number in range(ROWS):
            disk.put(key(number), made(number), None if number % 2 else 1e9)
            name_by_job(files, f"job {number}", made(number).data)
    return path


@pytest.fixture
def damaged(filled, tmp_path):
    """Opens a copy of the filled folder whose index was changed in some way."""

    def damage(change, ending=""):
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(filled, folder)
        path = folder / f"index.db{ending}"
        path.write_bytes(change(path.read_bytes()))
        return folder

    return damage


def use(files):
    """All that a server asks of its store: nothing fails, and no answer is wrong. Which results and jobs are left."""
    disk = Disk(files, 100)
    jobs = {job_id for job_id, _ in files.index.jobs()}
    files.index.all_named()
    files.sweep()
    found = {number: disk.get(key(number)) for number in range(ROWS)}
    for number, value in found.items():
        assert value is None or value.data == made(number).data
    left = {number for number, value in found.items() if value is not None}
    disk.derived([digest(b"3")], [])
    assert len(disk.entries(1000, 0, [])) == len(disk) == len(disk.keys())
    disk.stats()
    for number in (0, ROWS):  # one that may be there, and one that is not
        assert disk.put(key(number), made(number), None)
        files.index.save_job(f"job {number}", b"{}", None, None)
        assert disk.pin(key(number), True)
    disk.note_uses({key(1): 1})
    list(disk._in_the_way())
    disk.sweep(None)
    assert disk.get(key(ROWS)).data == made(ROWS).data
    for number in range(0, ROWS, 5):
        disk.delete(key(number))
    disk.clear()
    assert len(disk) == 0
    return jobs, left


def is_set_aside(folder):
    return any((folder / "set-aside").glob("index-*"))


class TestADamagedOne:
    def test_a_sound_one_stays_where_it_is(self, filled, damaged):
        with folders(damaged(lambda data: data)) as files:
            assert use(files) == ({f"job {number}" for number in range(ROWS)}, set(range(ROWS)))
            assert not is_set_aside(files.data_dir)

    @pytest.mark.parametrize("mask", [0xFF, 0x01, 0x30])
    def test_one_byte_wherever_it_is_costs_what_it_held_and_never_the_service(self, filled, damaged, mask, request):
        """Some flips nobody can see, others cost a page of rows. No answer is ever wrong."""
        size = os.path.getsize(filled / "index.db")
        step = 101 if request.config.getoption("--slow") else 1601
        version = range(60, 64)  # one that says of itself that it is newer is refused: nothing is lost
        set_aside = 0
        for offset in range(mask % step, size, step):
            if offset in version:
                continue

            def flip(data, offset=offset):
                return data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]

            with folders(damaged(flip)) as files:
                set_aside += is_set_aside(files.data_dir)
                jobs, left = use(files)
            if offset >= 4096:  # the first page says what the others are
                assert len(jobs) + len(left) >= ROWS // 2, f"the byte at {offset}"
        assert set_aside

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: b"garbage " * 5000,
            lambda data: b"\0" * len(data),
            lambda data: data[:100],
            lambda data: data[:4096],
            lambda data: b"\0" * 100 + data[100:],
        ],
        ids=["garbage", "zeroed", "only the header", "only a page", "no header"],
    )
    def test_where_nothing_can_be_read_the_server_starts_and_no_file_is_lost(self, damaged, change, caplog):
        folder = damaged(change)
        before = (folder / "index.db").read_bytes()
        with folders(folder) as files:
            assert "damaged" in caplog.text
            [aside] = [path for path in (folder / "set-aside").iterdir() if path.suffix == ".db"]
            assert aside.read_bytes() == before
            jobs, left = use(files)
            assert (jobs, left) == (set(), set())
            for number in range(1, ROWS):
                assert digest(made(number).data) in contents(files), "the index that names it may yet be read"

    @pytest.mark.parametrize("size", [0, 1, None])
    def test_where_there_is_none_any_more_no_file_is_lost_either(self, filled, damaged, size):
        folder = damaged(lambda data: data[: size or 0])
        if size is None:
            (folder / "index.db").unlink()
        for _ in range(2):
            with folders(folder) as files:
                files.sweep()
                assert contents(files) == {digest(made(number).data) for number in range(ROWS)}

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_of_a_truncated_one_the_readable_rows_are_taken_over(self, damaged, share, caplog):
        with folders(damaged(lambda data: data[: int(len(data) * share)])) as files:
            assert is_set_aside(files.data_dir)
            assert "rows that could be taken over" in caplog.text
            use(files)

    def test_a_page_in_the_middle_costs_its_rows_and_no_others(self, filled, damaged):
        with closing(sqlite3.connect(f"{(filled / 'index.db').as_uri()}?mode=ro", uri=True)) as db:
            pages = dict(
                db.execute("SELECT name, max(pageno) FROM dbstat WHERE pagetype = 'leaf' GROUP BY name").fetchall()
                if _has_dbstat(db)
                else [("results", db.execute("PRAGMA page_count").fetchone()[0])]
            )
        page = pages["results"]
        with folders(damaged(lambda data: data[: 4096 * (page - 1)] + b"\xaa" * 4096 + data[4096 * page :])) as files:
            assert is_set_aside(files.data_dir)
            jobs, left = use(files)
        assert jobs == {f"job {number}" for number in range(ROWS)}
        assert 0 < len(left) < ROWS

    def test_a_damaged_index_of_a_table_leads_to_no_wrong_row(self, filled, damaged):
        """The key's entry points to another row: without a check another picture's model would be delivered."""
        data = (filled / "index.db").read_bytes()
        wanted = key(7).encode()
        entries = [at for at in range(len(data)) if data.startswith(wanted, at)]
        assert len(entries) == 2, "the table's and its index'"
        other = key(8).encode()
        for at in entries:
            with folders(damaged(lambda data, at=at: data[:at] + other + data[at + len(other) :])) as files:
                jobs, left = use(files)
            assert len(jobs) == ROWS
            assert len(left) >= ROWS - 2

    @pytest.mark.parametrize("name", ["worth", "sources", "record", "results_sha256"])
    def test_a_column_of_another_name(self, damaged, name):
        wrong = name.replace(name[1], "x", 1).encode()
        with folders(damaged(lambda data: data.replace(name.encode(), wrong))) as files:
            assert is_set_aside(files.data_dir)
            use(files)

    def test_what_is_known_of_a_result_is_damaged_then_it_is_made_again(self, filled, damaged):
        for before, after in ((b'"own_seconds"', b'"own_secondz"'), (b'{"seconds"', b'["seconds"'), (b"1.0", b"9.0")):
            with folders(damaged(lambda data, change=(before, after): data.replace(*change, 1))) as files:
                disk = Disk(files, 100)
                found = [number for number in range(ROWS) if disk.get(key(number)) is not None]
                assert len(found) == ROWS - 1
                assert (disk.stats()["damaged"], len(disk)) == (1, ROWS - 1)

    def test_it_is_set_aside_once(self, damaged):
        folder = damaged(lambda data: b"garbage")
        for _ in range(3):
            with folders(folder) as files:
                files.index.save_job("a", b"1", None, None)
        assert len(list((folder / "set-aside").glob("index-*.db"))) == 1
        with folders(folder) as files:
            assert ids(files.index) == ["a"]


def _has_dbstat(db):
    try:
        db.execute("SELECT 1 FROM dbstat LIMIT 1")
    except sqlite3.OperationalError:
        return False
    return True


class TestADamagedLog:
    """`index.db-wal` is there after a kill: its last changes have not reached the index yet."""

    @pytest.fixture
    def killed(self, tmp_path):
        with folders(tmp_path / "server") as files:
            disk = Disk(files, 100)
            for number in range(ROWS):
                disk.put(key(number), made(number), None)
                name_by_job(files, f"job {number}", made(number).data)
            shutil.copytree(tmp_path / "server", tmp_path / "killed")
        return tmp_path / "killed"

    def test_a_whole_one_has_everything(self, killed):
        with folders(killed) as files:
            assert use(files) == ({f"job {number}" for number in range(ROWS)}, set(range(ROWS)))

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
    @pytest.mark.parametrize("kind", ["cut", "flipped", "zeroed", "garbage"])
    def test_what_came_before_the_damage_is_there(self, killed, share, kind, caplog):
        path = killed / "index.db-wal"
        data = path.read_bytes()
        at = int(len(data) * share)
        changes = {
            "cut": data[:at],
            "flipped": data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :],
            "zeroed": data[:at] + bytes(len(data) - at),
            "garbage": data[:at] + b"garbage" * ((len(data) - at) // 7),
        }
        path.write_bytes(changes[kind])
        with folders(killed) as files:
            jobs, _ = use(files)
        assert jobs == {f"job {number}" for number in range(len(jobs))}, "the first ones, without a gap"
        if share == 0.999:
            assert len(jobs) >= ROWS - 2


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.WARNING)
