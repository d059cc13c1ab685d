"""Both tiers of the cache and the jobs' contents, against a small model of what they promise, with whatever may happen.

The model knows which versions of a key's value each tier may hold, until when, and which contents faults took. It never
says what has to be cached: a cache may forget. It says what must not be: a value older than a clear or a delete of
its key, one whose time is up, bytes that nobody computed, a file that nobody names, a content that a job names and that
neither a fault nor a full disk took.

What happens meanwhile happens in another thread, from beginning to end, while this one is held in the middle of a
computation, a read, a write, a renaming, an fsync or a clear.
"""

import logging
import shutil
import tempfile
from collections import Counter, defaultdict
from contextlib import ExitStack
from itertools import count
from math import inf
from pathlib import Path
from types import SimpleNamespace

import faults
import pytest
from faults import change_bytes, digest, drop_job, elsewhere, fails, full, no_pages, result, unreadable
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from cache_manager import LRUCache
from errors import WorkError
from store import disk as disk_module
from store import index as index_module
from store.disk import Disk
from store.files import Files
from store.results import Results

KEYS = [f"file:{number}" for number in range(4)]
PICTURES = ["a" * 64, "b" * 64]
TTL = 100.0
DAY = 86_400.0
CAPACITY = 500
"""Bytes of results that the disk takes when it is small."""
_keys, _jobs = st.sampled_from(KEYS), st.sampled_from(["job 1", "job 2", "job 3"])
_versions = st.integers(1, 4)
_tiers = st.sampled_from(["memory", "disk", "all"])
DEEDS = [
    st.tuples(st.just("get"), _keys),
    st.tuples(st.just("get"), _keys),
    st.tuples(st.just("get"), _keys),
    st.tuples(st.just("find"), _keys),
    st.tuples(st.just("fail"), _keys),
    st.tuples(st.just("clear"), st.just("memory")),
    st.tuples(st.just("clear"), _tiers),
    st.tuples(st.just("delete"), _keys),
    st.tuples(st.just("forget"), st.sampled_from(PICTURES)),
    st.tuples(st.just("pin"), _keys, st.booleans()),
    st.tuples(st.just("settle"), _jobs, _versions, st.one_of(st.none(), _versions)),
    st.tuples(st.just("settle"), _jobs, _versions, st.one_of(st.none(), _versions)),
    st.tuples(st.just("upload"), _jobs),
    st.tuples(st.just("forget_job"), _jobs),
    st.tuples(st.just("download"), _jobs, st.sampled_from(["read", "open"])),
    st.tuples(st.just("sweep"), st.sampled_from([None, 150.0])),
]
"""What users do, and the server by itself."""
_moments = st.sampled_from(
    ["compute", "read", "write", "written", "rename", "sync_folder", "held", "clearing", "cleared"]
)
MEANWHILE = [st.tuples(_moments, deed).map(lambda drawn: ("meanwhile", drawn[0], *drawn[1])) for deed in DEEDS]
DEEDS += [
    st.tuples(st.just("wait"), st.sampled_from([60.0, 60.0, 99.0, 100.0]), st.sampled_from([0.0, 0.0, DAY, -DAY])),
    st.tuples(st.just("begin_anew"), st.sampled_from([200, 350, 600])),
]
FAULTS = [
    st.tuples(st.just("resize_disk"), st.booleans()),
    st.tuples(
        st.just("fail_write"),
        st.sampled_from(["write", "written", "rename", "sync_folder"]),
        st.sampled_from([full, unreadable]),
    ),
    st.tuples(st.just("fail_read")),
    st.tuples(st.just("fail_index"), st.integers(1, 3)),
    st.tuples(st.just("damage"), st.integers(0, 9), st.sampled_from(["flip", "cut", "remove"])),
    *MEANWHILE,
]


def value_of(version):
    """The bytes of a key's so manieth version: different within a key, the same for all keys."""
    return f"version {version} ".encode().ljust(30 + version * 37 % 150, b".")


VERSIONS = {digest(value_of(version)): version for version in range(2000)}


def picture_of(key):
    return PICTURES[int(key[-1]) % 2]


class Tier(Disk):
    """Tells when it is about to be cleared, and when it was."""

    moment = staticmethod(lambda name: None)

    def clear(self):
        self.moment("clearing")
        done = super().clear()
        self.moment("cleared")
        return done

    def delete(self, key):
        self.moment("clearing")
        done = super().delete(key)
        self.moment("cleared")
        return done

    def forget(self, keys):
        self.moment("clearing")
        super().forget(keys)
        self.moment("cleared")


class Model:
    """What each tier may hold: versions of each key, each with the moment when its computation began and its end."""

    def __init__(self):
        self.may = defaultdict(dict)
        """(tier, key) → version → (moment, deadline by the tier's own clock)"""
        self.dropped = Counter()
        """(tier, key) → the moment of the last clear or delete"""
        self.moments = count(1)
        self.versions = Counter()
        self.pins = set()
        self.jobs = {}
        self.lost = set()
        """Contents that a fault or a full disk took, and that nobody has made since."""
        self.faults = 0
        self.hits = self.misses = self.disk_hits = 0

    def allow(self, tier, key, version, began, deadline):
        if began > self.dropped[tier, key]:
            self.may[tier, key][version] = (began, deadline)

    def drop(self, tiers, keys, moment, *, unfinished=True):
        """Whatever was begun before that moment is gone; what is not finished, too, or not."""
        for tier in tiers:
            for key in keys:
                if unfinished:
                    self.dropped[tier, key] = max(self.dropped[tier, key], moment)
                held = self.may[tier, key]
                self.may[tier, key] = {version: facts for version, facts in held.items() if facts[0] > moment}


class Store(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.clean = ExitStack()
        shm = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None))
        self.clean.callback(shutil.rmtree, self.folder, ignore_errors=True)
        patch = self.clean.enter_context(pytest.MonkeyPatch.context())
        self.wall, self.steady = 1.7e9, 1000.0
        patch.setattr(disk_module, "time", SimpleNamespace(time=lambda: self.wall, monotonic=lambda: self.steady))
        patch.setattr(disk_module, "_SLACK", 0)
        patch.setattr(index_module, "_ROOM", 60)
        self.model = Model()
        self.busy = set()
        self.files = None
        self.story = []
        """What happened within the steps."""

    @initialize()
    def begin(self):
        self.open(350)

    def open(self, bound):
        self.system = faults.Disk(self.folder / "results", None)
        self.files = Files(self.folder, self.folder / "uploads", self.folder / "outputs", self.system)
        self.tier = Tier(self.files, bound / 1e6)
        self.tier.moment = lambda name: self.system._note(name, self.folder)
        lru = LRUCache(4, 0.0004, TTL, clock=lambda: self.steady)
        self.results = Results(lru, {}, self.tier)
        self.files.blobs.free_space = lambda: 10**12 if self.system.capacity is None else self.system.free()
        self.files.system.make_room = self.files.index.make_room = self.watched_make_room
        self.index_fails = 0
        self.files.index._in_transaction = self.watched(self.files.index._in_transaction)
        self.files.index.rows("PRAGMA synchronous = OFF")
        self.files.sweep()
        self.tier.sweep(None)
        self.model.hits = self.model.misses = self.model.disk_hits = 0

    def teardown(self):
        note("\n".join(self.story))
        if self.files is not None:
            self.files.close()
        self.clean.close()

    # ── what the store does, watched ─────────────────────────────────────────────────────────────────────────────

    def watched(self, transaction):
        """Transactions of which some fail at their very end."""

        def watched(action):
            def then_fail(db):
                done = action(db)
                if self.index_fails:
                    self.index_fails -= 1
                    raise no_pages()
                return done

            return transaction(then_fail)

        return watched

    def watched_make_room(self, path, size):
        index, before = self.files.index, self.on_disk()
        pinned = {sha256 for (sha256,) in index.rows("SELECT sha256 FROM results WHERE pinned")}
        named, held = index.named_by_jobs(), set(+self.files.blobs._held)
        made = self.tier.make_room(path, size)
        gone = before - self.on_disk()
        assert made == bool(gone)
        assert not gone & (pinned | held)
        if gone & named:
            assert not (self.on_disk() & index.all_named()) - named - pinned - held, "first what no job names"
        self.model.lost |= gone
        self.model.faults += sum(map(index.result_names, gone))  # the index did not take even that
        self.story.append("room was made" if made else "there was no room to be made")
        return made

    def on_disk(self):
        return {path.name for path in (self.folder / "results").iterdir() if not path.name.startswith(".")}

    @property
    def disk_now(self):
        return self.tier.clock()

    # ── what users do ────────────────────────────────────────────────────────────────────────────────────────────

    def fail(self, key):
        self.get(key, breaks=True)

    def get(self, key, *, breaks=False):
        model, began, computed = self.model, next(self.model.moments), []
        before = self.allowed(key)
        in_memory = self.results.lru.peek(key) is not None
        row = self.files.index.row("SELECT sha256 FROM results WHERE key = ?", key)
        self.busy.add(key)

        def compute():
            computed.append(None)
            model.versions[key] += 1
            computed[0] = version = model.versions[key]
            self.system._note("compute", self.folder)
            if breaks:
                raise KeyError("the model failed")
            return result_of(key, version)

        try:
            made = self.results.get_or_compute(key, compute)
        except KeyError:
            model.misses += 1
            return
        finally:
            self.busy.discard(key)
        self.check(made)
        version = VERSIONS[made.sha256]
        if computed:
            assert version == computed[0]
            model.misses += 1
            if row is None or (row[0] in model.lost and not self.tier.keys().get(key)):
                model.pins.discard(key)  # with the row: it was cleared, or its file damaged
            for tier, now in (("memory", self.steady), ("disk", self.disk_now)):
                model.allow(tier, key, version, began, now + TTL)
        else:
            assert version in before | self.allowed(key), f"{key}: version {version} was dropped, or its time was up"
            model.hits += 1
            if not in_memory:
                model.disk_hits += 1
                deadline = self.steady + TTL if key in model.pins else self.memory_time(key, version)
                model.allow("memory", key, version, began, deadline)

    def memory_time(self, key, version):
        """When what moved up has to leave memory, at the latest."""
        _, deadline = self.model.may["disk", key].get(version, (0, inf))
        return deadline - self.disk_now + self.steady

    def allowed(self, key):
        """The versions that may be delivered now."""
        memory = {v for v, (_, until) in self.model.may["memory", key].items() if until > self.steady}
        on_disk = self.model.may["disk", key].items()
        return memory | {v for v, (_, until) in on_disk if until > self.disk_now or key in self.model.pins}

    @staticmethod
    def check(made):
        assert made.sha256 in VERSIONS, "nobody computed that"
        assert made.data == value_of(VERSIONS[made.sha256])
        assert made.size_mb == len(made.data) / 1e6

    def find(self, key):
        model, began, before = self.model, next(self.model.moments), self.allowed(key)
        in_memory = self.results.lru.peek(key) is not None
        self.busy.add(key)
        try:
            made = self.results.find(key)
        finally:
            self.busy.discard(key)
        if made is None:
            return
        self.check(made)
        version = VERSIONS[made.sha256]
        assert version in before | self.allowed(key)
        model.hits += 1
        if not in_memory:
            model.disk_hits += 1
            deadline = self.steady + TTL if key in model.pins else self.memory_time(key, version)
            model.allow("memory", key, version, began, deadline)

    def clear(self, tier):
        moment = next(self.model.moments)
        self.results.clear(tier)
        self.model.drop(("memory", "disk") if tier == "all" else (tier,), KEYS, moment)

    def delete(self, key):
        moment = next(self.model.moments)
        self.results.delete(key)
        self.model.drop(("memory", "disk"), [key], moment)

    def forget(self, picture):
        moment = next(self.model.moments)
        keys = [key for key in KEYS if picture_of(key) == picture]
        self.results.forget([picture], [], lambda key, sources: key == keys[0])
        # What is just being made of it is the job's who has it made: it forgets again when it ends.
        self.model.drop(("memory", "disk"), keys[1:], moment, unfinished=False)

    def pin(self, key, pinned):
        began, on_disk, made = next(self.model.moments), key in self.tier, self.results.lru.peek(key)
        if self.results.pin(key, pinned):
            (self.model.pins.add if pinned else self.model.pins.discard)(key)
            if not on_disk and made is not None:
                self.model.allow("disk", key, VERSIONS[made.sha256], began, self.disk_now + TTL)

    def settle(self, job, file, shape):
        """A job is completed: it names a file and a shape, and what it named before is given up."""
        named = {digest(value_of(version)): value_of(version) for version in (file, shape) if version is not None}
        with self.files.blobs.holding(*named.items()):
            self.system._note("held", self.folder)
            before = self.model.jobs.get(job, set())
            self.files.index.save_job(job, b"{}", *named, *[None] * (2 - len(named)))
            self.model.jobs[job] = set(named)
            self.model.lost |= named.keys() - self.on_disk()  # the shape did not fit, and the file did
            self.files.blobs.release(before - named.keys())

    def upload(self, job):
        """A job that names nothing yet."""
        if job not in self.model.jobs:
            self.files.index.save_job(job, b"{}", None, None)
            self.model.jobs[job] = set()

    def forget_job(self, job):
        if job in self.model.jobs:
            drop_job(self.files, job)
            del self.model.jobs[job]

    def download(self, job, way):
        for content in sorted(self.model.jobs.get(job, ())):
            wanted = value_of(VERSIONS[content])
            if way == "read":
                found = self.files.blobs.read(content)
            elif (stream := self.files.blobs.open(content, len(wanted))) is not None:
                with stream:
                    found = stream.read()
            else:
                found = None
            assert found in (wanted, None)

    def sweep(self, unused):
        self.results.write_uses()
        self.tier.sweep(unused)

    def wait(self, seconds, jump):
        self.steady += seconds
        self.wall += seconds + jump

    def begin_anew(self, bound):
        self.index_fails = 0
        self.files.close()
        for key in KEYS:
            self.model.may["memory", key].clear()
        self.open(bound)

    def do(self, what, *facts):
        self.story.append(f"{what} {facts}")
        try:
            getattr(self, what)(*facts)
        except (OSError, WorkError):  # a full disk, say: the user is told
            self.model.faults += 1  # damage that was found, and could not be repaired, will be found again

    # ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────

    def resize_disk(self, small):
        self.system.capacity = CAPACITY if small else None

    def fail_write(self, moment, error):
        self.system.at.setdefault(moment, []).append(fails(error()))

    def fail_read(self):
        self.system.at.setdefault("read", []).append(fails(unreadable()))

    def fail_index(self, times):
        self.index_fails = times

    def damage(self, number, how):
        contents = sorted(self.on_disk())
        if not contents:
            return
        content = contents[number % len(contents)]
        path = self.files.blobs.path(content)
        if how == "remove":
            path.unlink()
        else:
            data = path.read_bytes() or b"?"
            change_bytes(path, data[:-1] if how == "cut" else bytes([data[0] ^ 255]) + data[1:])
        self.model.faults += 1
        self.model.lost.add(content)

    def meanwhile(self, moment, what, *facts):
        """The next time that a thread is at that moment another one does this."""

        def act():
            if what in ("get", "find", "fail", "pin") and facts[0] in self.busy:
                return  # it would wait for the one that is held
            self.model.faults += 1  # both may find the same damage
            self.do(what, *facts)

        self.system.at.setdefault(moment, []).append(elsewhere(act))

    # ── the rules ────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(deeds=st.lists(st.one_of(DEEDS), min_size=1, max_size=10))
    def things_happen(self, deeds):
        for deed in deeds:
            self.do(*deed)
            self.all_is_well()

    @rule(deeds=st.lists(st.one_of(FAULTS), min_size=1, max_size=2))
    def something_goes_wrong(self, deeds):
        for deed in deeds:
            self.do(*deed)

    # ── what always holds ────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def all_is_well(self):
        if self.files is None:
            return
        model, index = self.model, self.files.index
        rows = index.rows("SELECT key, sha256, bytes, expires, pinned, kind FROM results")
        on_disk, named = self.on_disk(), index.all_named()

        held = {key: VERSIONS[sha256] for key, sha256, *_ in rows}
        self.narrow("disk", held)
        self.narrow("memory", {key: VERSIONS[entry.value.sha256] for key, entry in self.results.lru.cache.items()})
        for key, sha256, size, expires, pinned, kind in rows:
            _, deadline = model.may["disk", key][VERSIONS[sha256]]
            assert expires is not None
            assert expires <= deadline + 1e-6
            assert (size, kind) == (len(value_of(VERSIONS[sha256])), "file")
            assert bool(pinned) == (key in model.pins), key
        model.pins &= held.keys()

        pinned = sum(size for _, _, size, _, pinned, _ in rows if pinned)
        assert sum(size for _, _, size, *_ in rows) <= max(self.tier.max_bytes, pinned)
        assert len(on_disk) == len(list((self.folder / "results").iterdir())), "a file that is half written"
        assert on_disk <= named, "a file that nobody names"
        model.lost &= named
        assert named - on_disk <= model.lost, "a content that nobody took is gone"
        for content in self.files.blobs.missing & on_disk:  # its fsync failed, so nobody relied on it
            self.system.at.pop("read", None)
            assert (self.files.blobs.read(content) is None) == (content in self.files.blobs.missing)
        assert not +self.files.blobs._held
        assert not self.tier._claims
        assert {job_id for job_id, _ in index.jobs()} == set(model.jobs)
        assert index.named_by_jobs() == set().union(*model.jobs.values())
        for content in on_disk & model.lost:
            if self.files.blobs.path(content).read_bytes() == value_of(VERSIONS[content]):
                model.lost.discard(content)  # it was made again

        stats = self.results.stats()
        assert (stats["hits"], stats["misses"]) == (model.hits, model.misses)
        assert stats["disk"]["hits"] == model.disk_hits
        assert stats["disk"]["damaged"] <= model.faults
        assert stats["disk"]["items"] == len(rows)
        left = stats["evictions"] + stats["expirations"] + stats["replaced"] + stats["deleted"] + stats["cleared"]
        assert stats["stored"] == stats["current_items"] + left
        listed = self.results.entries(100, 0)
        assert {row["key"] for row in listed} == held.keys() | set(self.results.lru.cache)
        assert len(listed) == len(self.results)

    def narrow(self, tier, held):
        """What a tier holds it may hold, and from now on it has nothing else."""
        for key in KEYS:
            may = self.model.may[tier, key]
            if key in held:
                assert held[key] in may, f"{tier} holds a version {held[key]} of {key} that was dropped"
                self.model.may[tier, key] = {held[key]: may[held[key]]}
            else:
                may.clear()


def result_of(key, version):
    data = value_of(version)
    return result(data.decode(), len(data), seconds=float(version % 5), sources=[picture_of(key)])


EXAMPLES, EXAMPLES_SLOW = 40, 1500


def test_tiers_hold_what_they_promise_whatever_happens(request, caplog):
    caplog.set_level(logging.CRITICAL)  # thousands of faults
    slow = request.config.getoption("--slow")
    steps = Counter()

    class Counted(Store):
        def do(self, what, *facts):
            steps[what] += 1
            super().do(what, *facts)

    run_state_machine_as_test(
        Counted,
        settings=settings(
            max_examples=EXAMPLES_SLOW if slow else EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=not slow,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        ),
    )
    print(f"{sum(steps.values())} steps: {dict(steps)}")
    assert sum(steps.values()) >= (100_000 if slow else 1000)
