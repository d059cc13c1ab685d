"""The index: a SQLite file that knows every result on disk and every job.

A transaction that has ended outlives its process; after the next `sync` it is on the disk, which many threads have with
one fsync, without the lock (WAL, `synchronous=NORMAL`). What a row names was put on the disk before: so after a power
cut there may be a file that no row names, never a row whose file was not yet written. One process has the file, and in
it one connection under one lock. A damaged index is set aside, and what can still be read of it taken over.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

from errors import DataFolderError

T = TypeVar("T")
Row = tuple[Any, ...]

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE results (
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL,         -- cutout, shape or file
    sha256 TEXT NOT NULL,       -- of the bytes, and the name of the file that holds them
    bytes INTEGER NOT NULL,
    seconds REAL NOT NULL,      -- what the last step to it took
    facts TEXT NOT NULL,        -- JSON: what else is known of it
    sources TEXT NOT NULL,      -- SHA-256 of the pictures that it was made of, with spaces between
    crc32 INTEGER NOT NULL,     -- of key, sha256, facts and sources
    stored REAL NOT NULL,       -- times are seconds since the epoch
    used REAL NOT NULL,
    uses INTEGER NOT NULL,
    worth REAL NOT NULL,        -- who is worth least leaves first
    expires REAL,               -- NULL: never
    pinned INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX results_sha256 ON results (sha256);
CREATE INDEX results_worth ON results (pinned, worth);
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order in which they came
    id TEXT NOT NULL UNIQUE,
    file_sha256 TEXT,           -- what it delivered
    shape_sha256 TEXT,          -- what other formats of it are converted from
    record BLOB NOT NULL
) STRICT;
CREATE INDEX jobs_file ON jobs (file_sha256);
CREATE INDEX jobs_shape ON jobs (shape_sha256);
CREATE TABLE numbers (name TEXT PRIMARY KEY, value REAL NOT NULL) STRICT;    -- the age of the policy
"""
_TABLES = ("results", "jobs", "numbers")
_CONTENT = re.compile("[0-9a-f]{64}")
_ROOM = 1_000_000
"""Bytes to make room for when the index cannot grow."""

log = logging.getLogger(__name__)


class Index:
    """Open, or made. DataFolderError: a newer server wrote it, or it cannot be used at all."""

    def __init__(self, path: Path, set_aside: Path) -> None:
        """`set_aside`: the folder that a damaged index is moved to."""
        self.lock = threading.RLock()
        """Held while the index and the files that it names are made to agree."""
        self.make_room: Callable[[Path, int], bool] = lambda path, size: False
        """Asked when the disk is full; True: something was deleted."""
        self._path, self._within = path, False
        self._syncing = threading.Lock()
        self._log: int | None = None
        self._commits = self._synced = 0
        try:
            self._db = self._open(set_aside)
        except (sqlite3.Error, OSError) as error:
            raise DataFolderError(f"the index {path} cannot be used: {error}") from error

    def _open(self, set_aside: Path) -> sqlite3.Connection:
        try:
            db = _connect(self._path)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if _may_be_sound(error):
                raise
        else:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version <= SCHEMA_VERSION:
                return db
            db.close()
            raise DataFolderError(
                f"the folder {self._path.parent} was written by a newer ORFEAS (index {version}, this one knows up to "
                f"{SCHEMA_VERSION}): use that, or another DATA_DIR"
            )
        damaged = _move_aside(self._path, set_aside)
        db = _connect(self._path)
        saved = _salvage(damaged, db)
        log.error("the index was damaged: moved to %s; rows that could be taken over: %s", damaged, saved)
        return db

    def close(self) -> None:
        """Write what is in memory and let go of the file."""
        with self.lock:
            self.wipe()
            self._db.close()
        with self._syncing:
            if self._log is not None:
                os.close(self._log)
                self._log = None

    def rows(self, question: str, *values: Any) -> list[Row]:
        """What a SELECT finds; OSError."""
        with self.lock:
            try:
                return self._db.execute(question, values).fetchall()
            except sqlite3.Error as error:
                raise _as_os_error(error) from error

    def row(self, question: str, *values: Any) -> Row | None:
        """Its first row, or None; OSError."""
        found = self.rows(question, *values)
        return found[0] if found else None

    def change(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Do all that `action` does in one transaction, or nothing; on return it outlives this process. OSError."""
        with self.lock:
            if self._within:
                return action(self._db)
            while True:
                try:
                    return self._in_transaction(action)
                except sqlite3.Error as error:
                    if not _is_full(error) or not self.make_room(self._path, _ROOM):
                        raise _as_os_error(error) from error

    def _in_transaction(self, action: Callable[[sqlite3.Connection], T]) -> T:
        self._db.execute("BEGIN IMMEDIATE")
        self._within = True
        try:
            done = action(self._db)
            self._db.execute("COMMIT")
            self._commits += 1
            return done
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        finally:
            self._within = False

    def sync(self) -> None:
        """Put what was committed before on the disk. Who asks while another does waits for one more fsync, and shares
        it with all who wait. OSError."""
        wanted = self._commits
        with self._syncing:
            if self._synced < wanted:
                committed = self._commits
                self._sync_log()
                self._synced = committed

    def _sync_log(self) -> None:
        if self._log is None:
            try:
                self._log = os.open(f"{self._path}-wal", os.O_RDWR)
            except FileNotFoundError:  # closed, and everything is in the file itself
                return
        os.fsync(self._log)

    def wipe(self) -> None:
        """Leave nothing of deleted rows in the log beside the file; the file itself has zeros in their place."""
        with self.lock, suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def save_job(self, job_id: str, record: bytes, file_sha256: str | None, shape_sha256: str | None) -> None:
        """Keep a job's record and what it names, in the place of an earlier one."""
        self.change(
            lambda db: db.execute(
                "INSERT INTO jobs (id, file_sha256, shape_sha256, record) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET (file_sha256, shape_sha256, record) = "
                "(excluded.file_sha256, excluded.shape_sha256, excluded.record)",
                (job_id, file_sha256, shape_sha256, record),
            )
        )

    def jobs(self) -> list[tuple[str, bytes]]:
        """Ids and records, in the order in which they came."""
        return [(job_id, record) for job_id, record in self.rows("SELECT id, record FROM jobs ORDER BY number")]

    def job_ids(self) -> frozenset[str]:
        """Of all jobs, those with unreadable records too."""
        return frozenset(job_id for (job_id,) in self.rows("SELECT id FROM jobs"))

    def had_jobs(self) -> bool:
        """Whether there is, or ever was, a job."""
        return self.row("SELECT 1 FROM sqlite_sequence WHERE name = 'jobs' AND seq > 0") is not None

    # ── contents ─────────────────────────────────────────────────────────────────────────────────────────────────

    def names(self, sha256: str) -> bool:
        """Whether a result or a job names that content."""
        return self.result_names(sha256) or self.job_names(sha256)

    def result_names(self, sha256: str) -> bool:
        """Whether a result does."""
        return self.row("SELECT 1 FROM results WHERE sha256 = ?", sha256) is not None

    def job_names(self, sha256: str) -> bool:
        """Whether a job does."""
        question = "SELECT 1 FROM jobs WHERE file_sha256 = ? UNION ALL SELECT 1 FROM jobs WHERE shape_sha256 = ?"
        return self.row(question, sha256, sha256) is not None

    def all_named(self) -> set[str]:
        """Every content that a result or a job names."""
        return {sha256 for (sha256,) in self.rows("SELECT sha256 FROM results")} | self.named_by_jobs()

    def named_by_jobs(self) -> set[str]:
        """Every content that a job names."""
        rows = self.rows("SELECT file_sha256 FROM jobs UNION SELECT shape_sha256 FROM jobs")
        return {sha256 for (sha256,) in rows if sha256 is not None}


def _connect(path: Path) -> sqlite3.Connection:
    """A sound index; sqlite3.DatabaseError."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.text_factory = _text
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # the folder is ours alone: no memory shared through a file
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # `sync` does the rest
        db.execute("PRAGMA wal_autocheckpoint = 256")  # pages of 4 KB
        db.execute("PRAGMA journal_size_limit = 1000000")
        schema, version = _schema(db), db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not schema:
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version <= SCHEMA_VERSION:
            _check(db, schema)
    except BaseException:
        db.close()
        raise
    return db


def _text(data: bytes) -> str:
    """What is no UTF-8 any more must not make the rest unreadable."""
    return data.decode(errors="replace")


def _schema(db: sqlite3.Connection) -> set[str]:
    """The statements that made it, without their comments."""
    rows = db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {" ".join(re.sub("--[^\n]*", "", sql).split()) for (sql,) in rows}


def _check(db: sqlite3.Connection, schema: set[str]) -> None:
    """sqlite3.DatabaseError; not only whether it can be read, as a damaged index of a table leads to a wrong row."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(_SCHEMA)
        if schema != _schema(fresh):
            raise sqlite3.DatabaseError("its tables are not what they were")
    found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _may_be_sound(error: Exception) -> bool:
    """Whether it tells of the disk, or of others, and not of what is in the file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def _move_aside(path: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"index-{secrets.token_hex(4)}.db"
    for ending in ("-wal", "-journal", ""):
        with suppress(FileNotFoundError):
            os.replace(f"{path}{ending}", f"{target}{ending}")
    return target


def _salvage(damaged: Path, db: sqlite3.Connection) -> dict[str, int]:
    """Copy the rows that can be read, table by table; how many of each."""
    saved = dict.fromkeys(_TABLES, 0)
    with closing(sqlite3.connect(f"{damaged.as_uri()}?mode=ro", uri=True, isolation_level=None)) as old:
        old.text_factory = _text
        for table in _TABLES:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            names, places = ", ".join(columns), ", ".join("?" * len(columns))
            contents = [place for place, name in enumerate(columns) if name.endswith("sha256")]
            db.execute("BEGIN")
            with suppress(sqlite3.Error, UnicodeDecodeError):  # what follows the damage is lost
                for row in _readable(old, f"SELECT {names} FROM {table}"):
                    if all(row[place] is None or _CONTENT.fullmatch(str(row[place])) for place in contents):
                        with suppress(sqlite3.IntegrityError):  # it was seen before, or is of a wrong type
                            db.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", row)
                            saved[table] += 1
            db.execute("COMMIT")
    return saved


def _readable(db: sqlite3.Connection, question: str) -> Iterable[Row]:
    """The rows from the front up to the damage, then those from the back down to it."""
    for order in ("ASC", "DESC"):
        try:
            yield from db.execute(f"{question} ORDER BY rowid {order}")
        except sqlite3.Error:
            continue
        return


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _as_os_error(error: sqlite3.Error) -> OSError:
    if _is_full(error):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return OSError(errno.EIO, f"the index: {error}")
