"""The disk tier of the result cache: what it holds is there after a restart, and gigabytes fit into it.

Bounded by bytes. Who is worth least leaves first, and worth is age + uses × seconds ÷ bytes (GreedyDual-Size with
Frequency, Cherkasova, HP Labs technical report HPL-98-69R1), where the age is the worth of what left last. What a job
names leaves after everything else, as its bytes stay on the disk anyway. What is pinned neither leaves nor expires.

The bound, lifetimes and `clear` say what may be used again for other requests. Bytes that a job names stay with it:
only a full disk takes them (`make_room`), after everything else that is not pinned.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from store.files import Files
from store.index import Row
from store.made import Made

T = TypeVar("T")
MB = 1_000_000
_SLACK = 1_000_000
"""Bytes left free beside those that room is made for: the index wants some, too."""
_FACTS = ("seconds", "own_seconds", "report", "shape_sha256")
"""Of what was made: all that is not in a column of its own."""
_AGE = "(SELECT coalesce(max(value), 0) FROM numbers WHERE name = 'age')"
_DENSITY = "max(CASE WHEN seconds > 0 THEN seconds ELSE 1.0 END, 1e-9) / max(bytes, 1)"
"""Seconds that a byte saves; an unknown time counts as a second."""
_NAMED = (  # without NULL, or SQL knows of no content that it is not among them
    "sha256 IN (SELECT file_sha256 FROM jobs WHERE file_sha256 NOT NULL "
    "UNION ALL SELECT shape_sha256 FROM jobs WHERE shape_sha256 NOT NULL)"
)
_ALIVE = "(pinned OR expires IS NULL OR expires > ?)"

log = logging.getLogger(__name__)


class Clock:
    """Seconds since the epoch by the clock of the process's start, steady from then on: a clock that is set right, or
    wrong, while the server runs lets nothing expire."""

    def __init__(self) -> None:
        self._began = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Now."""
        return self._began + time.monotonic()


class Disk:
    """Results by key, at most `max_mb` (10^6 bytes) of them; 0: none.

    What reads never raises for the disk's sake: what cannot be read is not there. What writes raises OSError.
    """

    def __init__(self, files: Files, max_mb: float, clock: Callable[[], float] | None = None) -> None:
        self._index, self._blobs, self.clock = files.index, files.blobs, clock or Clock()
        files.system.make_room = files.index.make_room = self.make_room
        self.max_bytes = int(max_mb * MB)
        self._counting = threading.Lock()
        self._counts = Counter[str]()
        self._claims: dict[str, object] = {}

    def _count(self, what: str, number: int = 1) -> None:
        with self._counting:
            self._counts[what] += number

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def get(self, key: str) -> Made | None:
        """The result, or None. Counts a hit or a miss."""
        row = self._find(key)
        data = self._blobs.read(row[0], row[1]) if row else None
        if row is None or data is None:
            self._count("misses")
            return None
        sha256, size, facts, sources, expires, _ = row
        self._count("hits")
        left = None if expires is None else max(0.0, expires - self.clock())
        return Made(data, sha256, size / MB, sources=tuple(sources.split()), usable_seconds=left, **json.loads(facts))

    def claim(self, key: str) -> object:
        """Say that its result is about to be computed: `put` stores it unless it is deleted or claimed again
        meanwhile."""
        self._claims[key] = claim = object()
        return claim

    def give_up(self, key: str, claim: object) -> None:
        """The end of a claim, if it still stands."""
        with self._index.lock:
            if self._claims.get(key) is claim:
                del self._claims[key]

    def _find(self, key: str) -> Row | None:
        if not self.max_bytes:
            return None
        try:
            row = self._index.row(
                "SELECT sha256, bytes, facts, sources, CASE WHEN pinned THEN NULL ELSE expires END, crc32 "
                f"FROM results WHERE key = ? AND {_ALIVE}",
                key,
                self.clock(),
            )
            if row is not None and _checksum(key, row[0], row[2], row[3]) != row[5]:
                log.warning("the row of the result %s was damaged: dropped", key)
                self._count("damaged")
                self._remove("key = ?", key)
                return None
        except OSError as error:
            log.error("the result %s cannot be looked up: %s", key, error)
            return None
        return row

    def note_uses(self, uses: Mapping[str, int]) -> None:
        """These were used so often since the last call, also where memory answered."""
        now = self.clock()

        def write(db: sqlite3.Connection) -> None:
            db.executemany(
                f"UPDATE results SET uses = uses + ?2, worth = max(worth, {_AGE} + (uses + ?2) * {_DENSITY}), "
                "used = ?3 WHERE key = ?1",
                ((key, count, now) for key, count in uses.items()),
            )

        if uses:
            try:
                self._index.change(write)
            except OSError as error:
                log.warning("what was used last could not be noted: %s", error)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, key: str, made: Made, ttl: float | None, claim: object = None) -> bool:
        """Keep it for `ttl` seconds (None: for ever). False: it is too large, or its claim, if it had one, was lost by
        the time that its bytes were on the disk."""
        if not self.max_bytes:
            return False
        if len(made.data) > self.max_bytes:
            self._count("rejected")
            self._remove("key = ?", key)
            return False
        with self._blobs.holding((made.sha256, made.data)), self._index.lock:
            if claim is not None and self._claims.get(key) is not claim:
                return False
            kept, gone = self._change(lambda db, counts: self._insert(db, counts, key, made, ttl))
            if gone:
                self._blobs.release(gone)
            return kept

    def _change(self, action: Callable[[sqlite3.Connection, Counter[str]], T]) -> T:
        """A change of the index; what it counts is counted once it is done, however often that was tried."""
        counts = Counter[str]()

        def tried(db: sqlite3.Connection) -> T:
            counts.clear()
            return action(db, counts)

        done = self._index.change(tried)
        with self._counting:
            self._counts += counts
        return done

    def _insert(
        self, db: sqlite3.Connection, counts: Counter[str], key: str, made: Made, ttl: float | None
    ) -> tuple[bool, list[str]]:
        now, most = self.clock(), self.max_bytes - len(made.data)
        old = db.execute("DELETE FROM results WHERE key = ? RETURNING sha256, pinned", (key,)).fetchone()
        gone = [old[0]] if old else []
        if _held(db, "pinned") > most:
            counts["rejected"] += 1
            return False, gone
        gone += _expire(db, counts, now)
        gone += _evict(db, counts, most)
        facts, sources = json.dumps({name: getattr(made, name) for name in _FACTS}), " ".join(made.sources)
        db.execute(
            "INSERT INTO results (key, kind, sha256, bytes, seconds, facts, sources, crc32, stored, used, "
            "expires, pinned, uses, worth) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0)",
            (
                *(key, key.partition(":")[0], made.sha256, len(made.data), made.own_seconds),
                *(facts, sources, _checksum(key, made.sha256, facts, sources), now, now),
                *(None if ttl is None else now + ttl, old[1] if old else 0),
            ),
        )
        db.execute(f"UPDATE results SET worth = {_AGE} + {_DENSITY} WHERE key = ?", (key,))
        return True, gone

    def delete(self, key: str) -> bool:
        """Whether there was one under that key. One that is being computed is not stored."""
        with self._index.lock:
            self._claims.pop(key, None)
            gone = self._remove("key = ?", key)
        self._index.sync()
        return gone > 0

    def clear(self) -> int:
        """Drop every result; how many there were. What is being computed is not stored."""
        with self._index.lock:
            self._claims.clear()
            gone = self._remove("1")
        self._index.sync()
        return gone

    def forget(self, keys: Collection[str]) -> None:
        """Drop these, and leave nothing of them in the index's files."""
        with self._index.lock:
            for key in keys:
                self._claims.pop(key, None)
            self._remove("key IN (SELECT value FROM json_each(?))", json.dumps(list(keys)))
        self._index.sync()
        self._index.wipe()

    def derived(self, sources: Collection[str], shapes: Collection[str]) -> list[tuple[str, tuple[str, ...]]]:
        """Keys and sources of what was made of one of those pictures, or of a shape with one of those contents."""
        shape = "CASE WHEN json_valid(facts) THEN json_extract(facts, '$.shape_sha256') END"
        rows = self._index.rows(f"SELECT key, sources, sha256, {shape} FROM results")
        return [
            (key, tuple(made_of.split()))
            for key, made_of, sha256, shape in rows
            if not set(sources).isdisjoint(made_of.split()) or sha256 in shapes or shape in shapes
        ]

    def _remove(self, condition: str, *values: Any) -> int:
        with self._index.lock:
            gone = self._index.change(
                lambda db: db.execute(f"DELETE FROM results WHERE {condition} RETURNING sha256", values).fetchall()
            )
            self._blobs.release(sha256 for (sha256,) in gone)
        return len(gone)

    def pin(self, key: str, pinned: bool) -> bool:
        """Whether there is such a result; from now on it stays, or does not."""
        if pinned and key not in self:
            return False
        changed = self._index.change(
            lambda db: db.execute("UPDATE results SET pinned = ? WHERE key = ?", (int(pinned), key)).rowcount
        )
        self._index.sync()
        return changed > 0

    def sweep(self, unused_seconds: float | None) -> None:
        """Drop what has expired, what was not used for so long, and what is too much since the bound was lowered."""
        now = self.clock()
        with self._index.lock:
            gone = self._change(lambda db, counts: _expire(db, counts, now) + _evict(db, counts, self.max_bytes))
            self._blobs.release(gone)
            if unused_seconds is not None:
                self._remove("NOT pinned AND used < ?", now - unused_seconds)

    # ── a full disk ──────────────────────────────────────────────────────────────────────────────────────────────

    def make_room(self, path: Path, size: int) -> bool:
        """Delete what was used longest ago until so many bytes can be written there: first what no job names, then what
        the oldest jobs name, nothing that is pinned. False: there is not enough to delete, and nothing was."""
        if not self._blobs.same_disk(path):
            return False
        with self._index.lock:
            free = self._blobs.free_space()
            wanted = size + _SLACK - (free if free < size else 0)  # with room for it, a quota is what is in the way
            victims, found = list[str](), 0
            for sha256, held in self._in_the_way():
                if found >= wanted:
                    break
                victims.append(sha256)
                found += held
            if free < size and free + found < size:
                return False
            freed = self._blobs.drop(victims)
        if freed:
            log.warning("the disk is full: %d results made room, %.1f MB", len(victims), freed / MB)
        return freed > 0

    def _in_the_way(self) -> Iterator[tuple[str, int]]:
        """Contents and their sizes, who goes first first."""
        seen = {sha256 for (sha256,) in self._index.rows("SELECT sha256 FROM results WHERE pinned")}
        cached = f"SELECT sha256 FROM results WHERE NOT {_NAMED} ORDER BY used"
        of_jobs = (
            "SELECT sha256 FROM (SELECT number, file_sha256 AS sha256 FROM jobs UNION ALL "
            "SELECT number, shape_sha256 FROM jobs) WHERE sha256 IS NOT NULL ORDER BY number"
        )
        for (sha256,) in [*self._index.rows(cached), *self._index.rows(of_jobs)]:
            if sha256 not in seen and (size := self._blobs.size(sha256)):
                seen.add(sha256)
                yield sha256, size

    # ── knowing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def __len__(self) -> int:
        return int(self._index.rows("SELECT count(*) FROM results")[0][0])

    def __bool__(self) -> bool:
        return True

    def stats(self) -> dict[str, Any]:
        """Counters since the start, and the present."""
        with self._counting:
            counts = Counter(self._counts)
        items, size, pinned = self._index.rows(
            "SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(pinned), 0) FROM results"
        )[0]
        hits, misses = counts["hits"], counts["misses"]
        return {
            **{name: counts[name] for name in ("hits", "misses", "evictions", "expirations", "rejected")},
            "hit_rate_percent": round(100 * hits / max(hits + misses, 1), 2),
            "damaged": self._blobs.damaged + counts["damaged"],
            "items": items,
            "mb": size / MB,
            "max_mb": self.max_bytes / MB,
            "utilization_percent": round(100 * size / max(self.max_bytes, 1), 2),
            "pinned": pinned,
        }

    def entries(self, limit: int, offset: int, without: Collection[str]) -> list[dict[str, Any]]:
        """One page of rows, the longest unused first, but for those keys."""
        rows = self._index.rows(
            "SELECT key, bytes, stored, uses, expires, pinned FROM results "
            "WHERE key NOT IN (SELECT value FROM json_each(?)) ORDER BY used LIMIT ? OFFSET ?",
            json.dumps(list(without)),
            limit,
            offset,
        )
        now = self.clock()
        return [
            {
                "key": key,
                "size_mb": size / MB,
                "timestamp": stored,
                "age_seconds": round(max(0.0, now - stored), 3),
                "access_count": uses - 1,
                "expires_at": None if pinned else expires,
                "expired": not pinned and expires is not None and expires <= now,
            }
            for key, size, stored, uses, expires, pinned in rows
        ]

    def keys(self) -> dict[str, bool]:
        """Every key, and whether it is pinned."""
        return {key: bool(pinned) for key, pinned in self._index.rows("SELECT key, pinned FROM results")}


def _checksum(*columns: str) -> int:
    """SQLite checks how its file hangs together, not what is in it."""
    return crc32("\n".join(columns).encode())


def _held(db: sqlite3.Connection, which: str = "1") -> int:
    """Bytes of these results."""
    return int(db.execute(f"SELECT coalesce(sum(bytes), 0) FROM results WHERE {which}").fetchone()[0])


def _expire(db: sqlite3.Connection, counts: Counter[str], now: float) -> list[str]:
    """The contents that were given up."""
    rows = db.execute(f"DELETE FROM results WHERE NOT {_ALIVE} RETURNING sha256", (now,)).fetchall()
    counts["expirations"] += len(rows)
    return [sha256 for (sha256,) in rows]


def _evict(db: sqlite3.Connection, counts: Counter[str], most: int) -> list[str]:
    """Leave at most so many bytes beside what is pinned: the contents that were given up."""
    held, gone = _held(db), list[str]()
    for named in ("NOT", ""):
        if held <= most:
            break
        victims = list[tuple[str]]()
        for key, sha256, size, worth in db.execute(
            f"SELECT key, sha256, bytes, worth FROM results WHERE NOT pinned AND {named} {_NAMED} ORDER BY worth, used"
        ):
            if held <= most:
                break
            held -= size
            victims.append((key,))
            gone.append(sha256)
            age = worth
        if victims:
            db.executemany("DELETE FROM results WHERE key = ?", victims)
            db.execute(f"INSERT OR REPLACE INTO numbers VALUES ('age', max({_AGE}, ?))", (age,))
            counts["evictions"] += len(victims)
    return gone
