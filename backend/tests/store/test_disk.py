"""The disk tier: what it keeps, who leaves first, what a clock may do to it, and what happens when the disk is full."""

import errno
import time
from concurrent.futures import ThreadPoolExecutor

import faults
import pytest
from faults import change_bytes, contents, digest, drop_job, elsewhere, folders, full, name_by_job, no_pages, result
from hypothesis import given, settings
from hypothesis import strategies as st

from cache_manager import LRUCache
from store import disk as disk_module
from store.disk import Clock, Disk
from store.results import Results

DAY = 86_400.0
KB = 1000


class Time:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def files(tmp_path):
    with folders(tmp_path, faults.Disk(tmp_path / "results")) as files:
        yield files


@pytest.fixture
def tier(files, clock):
    """Of ten results of 100 KB."""
    return Disk(files, 1, clock)


def of(text, kilobytes=100, **facts):
    return result(text, kilobytes * KB, **facts)


def keys(tier):
    return set(tier.keys())


def counters(tier):
    stats = tier.stats()
    return {name: stats[name] for name in ("hits", "misses", "evictions", "expirations", "rejected", "damaged")}


class TestKeeping:
    def test_what_is_put_is_found_as_it_was_made(self, tier):
        made = result("bytes", seconds=3.5, sources=["a" * 64, "b" * 64], shape="c" * 64)
        assert tier.put("file:1", made, None) is True
        assert tier.get("file:1") == made
        assert ("file:1" in tier, "file:2" in tier, tier.get("file:2")) == (True, False, None)
        assert (counters(tier)["hits"], counters(tier)["misses"]) == (1, 1)

    def test_a_later_one_takes_the_place_of_an_earlier_and_its_bytes(self, files, tier):
        tier.put("key", of("first"), None)
        tier.put("key", of("second"), None)
        assert tier.get("key") == of("second")
        assert contents(files) == {of("second").sha256}
        assert (len(tier), tier.stats()["mb"]) == (1, 0.1)

    def test_two_keys_of_one_content_have_one_file(self, files, tier):
        for key in ("a", "b"):
            tier.put(key, of("same"), None)
        assert len(contents(files)) == 1
        tier.delete("a")
        assert tier.get("b") == of("same")
        tier.delete("b")
        assert contents(files) == set()

    def test_what_is_larger_than_the_tier_is_not_kept_nor_what_it_replaces(self, files, tier):
        tier.put("key", of("small"), None)
        assert tier.put("key", of("large", 1001), None) is False
        assert (keys(tier), contents(files), counters(tier)["rejected"]) == (set(), set(), 1)
        assert tier.put("key", of("exactly", 1000), None) is True

    def test_a_tier_of_no_size_keeps_nothing_and_reads_nothing(self, files):
        Disk(files, 1).put("key", of("kept"), None)
        none = Disk(files, 0)
        assert none.put("other", of("other"), None) is False
        assert (none.get("key"), "key" in none) == (None, False)

    def test_deleted_or_cleared_it_is_gone_but_what_a_job_names_stays(self, files, tier):
        for name in "abc":
            tier.put(name, of(name), None)
        name_by_job(files, "job", of("a").data, shape=of("b").data)
        assert [tier.delete("a"), tier.delete("a"), tier.clear(), tier.clear()] == [True, False, 2, 0]
        assert contents(files) == {of("a").sha256, of("b").sha256}
        drop_job(files, "job")
        assert contents(files) == set()

    def test_it_is_all_there_in_the_next_process(self, tmp_path):
        for turn in range(3):
            with folders(tmp_path) as files:
                tier = Disk(files, 1)
                assert [tier.get(f"{n}").data for n in range(turn)] == [of(f"{n}").data for n in range(turn)]
                tier.put(f"{turn}", of(f"{turn}"), DAY)

    def test_entries_and_stats_tell_what_is_there(self, tier, clock):
        tier.put("old", of("old", 200), 10.0)
        clock.now += 4
        tier.put("new", of("new"), None)
        tier.note_uses({"new": 3})
        tier.pin("new", True)
        old, new = tier.entries(10, 0, without=[])
        assert old == {
            "key": "old",
            "size_mb": 0.2,
            "timestamp": clock.now - 4,
            "age_seconds": 4.0,
            "access_count": 0,
            "expires_at": clock.now + 6,
            "expired": False,
        }
        assert (new["key"], new["access_count"], new["expires_at"]) == ("new", 3, None)
        assert [row["key"] for row in tier.entries(1, 1, without=[])] == ["new"]
        assert tier.entries(10, 0, without=["old", "new"]) == []
        stats = tier.stats()
        assert (stats["items"], stats["mb"], stats["max_mb"], stats["pinned"]) == (2, 0.3, 1.0, 1)
        assert stats["utilization_percent"] == 30.0


class TestClaims:
    """What is being computed while it is deleted is not stored."""

    @pytest.mark.parametrize("drop", [lambda tier: tier.clear(), lambda tier: tier.delete("key")])
    def test_a_result_begun_before_it_is_not_stored_after_it_and_leaves_no_file(self, files, tier, drop):
        claim = tier.claim("key")
        drop(tier)
        assert tier.put("key", of("stale"), None, claim) is False
        assert (keys(tier), contents(files)) == (set(), set())
        tier.give_up("key", claim)

    @pytest.mark.parametrize("moment", ["write", "written", "rename", "sync_folder"])
    def test_nor_if_that_happens_while_its_bytes_are_on_the_way(self, files, tier, moment):
        claim = tier.claim("key")
        files.system.at[moment] = [elsewhere(tier.clear)]
        assert tier.put("key", of("stale"), None, claim) is False
        assert (keys(tier), contents(files)) == (set(), set())

    def test_what_was_begun_after_it_is_stored_whoever_ends_first(self, tier):
        early = tier.claim("key")
        tier.clear()
        late = tier.claim("key")
        assert tier.put("key", of("late"), None, late) is True
        assert tier.put("key", of("early"), None, early) is False
        tier.give_up("key", early)
        assert tier.get("key") == of("late")

    def test_what_was_made_before_is_not_brought_back_by_a_pin(self, tier):
        results = Results(LRUCache(), {}, tier)
        results.set("key", of("stale"), 0.1)
        peek = results.peek

        def peek_then_clear(key):
            value = peek(key)
            elsewhere(results.clear)()
            return value

        results.peek = peek_then_clear
        assert results.pin("key", True) is False
        assert keys(tier) == set()


class TestLifetimes:
    def test_it_expires_and_then_goes(self, files, tier, clock):
        tier.put("short", of("short"), 10.0)
        tier.put("ever", of("ever"), None)
        assert (tier.get("short").usable_seconds, tier.get("ever").usable_seconds) == (10.0, None)
        clock.now += 9.5
        assert tier.get("short").usable_seconds == 0.5
        clock.now += 0.5
        assert ("short" in tier, tier.get("short")) == (False, None)
        tier.sweep(None)
        assert (keys(tier), contents(files)) == ({"ever"}, {of("ever").sha256})
        assert counters(tier)["expirations"] == 1

    def test_what_has_expired_makes_room_before_anything_else_does(self, tier, clock):
        tier.put("worth more", of("worth more", 500, seconds=1000.0), 10.0)
        tier.put("worth less", of("worth less", 500, seconds=0.001), None)
        clock.now += 10
        tier.put("new", of("new", 500), None)
        assert keys(tier) == {"worth less", "new"}
        assert (counters(tier)["expirations"], counters(tier)["evictions"]) == (1, 0)

    def test_a_clock_that_is_set_while_the_server_runs_lets_nothing_expire_and_nothing_live_longer(self, monkeypatch):
        wall, steady = [1.7e9], [50.0]
        monkeypatch.setattr(disk_module.time, "time", lambda: wall[0])
        monkeypatch.setattr(disk_module.time, "monotonic", lambda: steady[0])
        clock = Clock()
        assert clock() == 1.7e9
        for jump in (DAY, -2 * DAY, 30 * DAY):
            wall[0] += jump
            steady[0] += 1
        assert clock() == 1.7e9 + 3

    @pytest.mark.parametrize("jump", [DAY, -DAY])
    def test_a_lifetime_of_an_hour_is_an_hour_across_it(self, files, monkeypatch, jump):
        wall, steady = [1.7e9], [50.0]
        monkeypatch.setattr(disk_module.time, "time", lambda: wall[0])
        monkeypatch.setattr(disk_module.time, "monotonic", lambda: steady[0])
        tier = Disk(files, 1)
        tier.put("key", of("key"), 3600.0)
        wall[0] += jump
        steady[0] += 3599
        tier.sweep(7200.0)
        assert tier.get("key").usable_seconds == pytest.approx(1)
        steady[0] += 1
        assert tier.get("key") is None

    def test_it_lasts_across_a_restart(self, tmp_path):
        clock = Time()
        with folders(tmp_path) as files:
            Disk(files, 1, clock).put("key", of("key"), 10.0)
        clock.now += 6
        with folders(tmp_path) as files:
            assert Disk(files, 1, clock).get("key").usable_seconds == 4.0
        clock.now += 6
        with folders(tmp_path) as files:
            assert Disk(files, 1, clock).get("key") is None

    def test_what_nobody_used_for_so_long_goes_in_a_sweep_what_is_pinned_does_not(self, tier, clock):
        for key in ("unused", "used", "pinned"):
            tier.put(key, of(key), None)
        tier.pin("pinned", True)
        clock.now += 100
        tier.note_uses({"used": 1})
        tier.sweep(None)
        assert len(tier) == 3
        tier.sweep(50.0)
        assert keys(tier) == {"used", "pinned"}


class TestPins:
    def test_what_is_pinned_neither_expires_nor_leaves(self, tier, clock):
        tier.put("pinned", of("pinned", 500, seconds=0.001), 1.0)
        assert (tier.pin("pinned", True), tier.pin("nothing", True)) == (True, False)
        for number in range(20):
            clock.now += 10
            tier.put(f"{number}", of(f"{number}", 300, seconds=1000.0), None)
        assert tier.get("pinned").usable_seconds is None
        assert tier.stats()["mb"] <= 1.0

    def test_unpinned_it_is_like_any_other(self, tier, clock):
        tier.put("key", of("key"), 10.0)
        tier.pin("key", True)
        clock.now += 20
        assert tier.pin("key", False) is True
        assert "key" not in tier
        assert tier.pin("key", True) is False, "its time is up"

    def test_it_stays_pinned_when_it_is_made_again_and_across_a_restart(self, tmp_path):
        with folders(tmp_path) as files:
            tier = Disk(files, 1)
            tier.put("key", of("first"), None)
            tier.pin("key", True)
            tier.put("key", of("second"), None)
        with folders(tmp_path) as files:
            assert Disk(files, 1).keys() == {"key": True}

    def test_what_does_not_fit_beside_the_pinned_drives_nobody_out(self, files, tier):
        tier.put("pinned", of("pinned", 600), None)
        tier.pin("pinned", True)
        tier.put("other", of("other", 300), None)
        assert tier.put("large", of("large", 500), None) is False
        assert keys(tier) == {"pinned", "other"}
        assert contents(files) == {of("pinned", 600).sha256, of("other", 300).sha256}
        assert (counters(tier)["rejected"], counters(tier)["evictions"]) == (1, 0)

    def test_clear_and_delete_take_it_all_the_same(self, tier):
        for drop in (tier.clear, lambda: tier.delete("key")):
            tier.put("key", of("key"), None)
            tier.pin("key", True)
            drop()
            assert len(tier) == 0


class TestWhoLeavesFirst:
    def test_who_saves_the_fewest_seconds_for_a_byte(self, tier):
        tier.put("slow and small", of("1", 100, seconds=100.0), None)
        tier.put("slow and large", of("2", 800, seconds=100.0), None)
        tier.put("quick and small", of("3", 100, seconds=1.0), None)
        tier.put("new", of("4", 100, seconds=1.0), None)
        assert keys(tier) == {"slow and small", "slow and large", "new"}

    def test_what_a_job_names_after_everything_else(self, files, tier):
        tier.put("named", of("named", 500, seconds=0.001), None)
        name_by_job(files, "job", of("named", 500).data)
        tier.put("worth more", of("worth more", 500, seconds=1000.0), None)
        tier.put("new", of("new", 300), None)
        assert keys(tier) == {"named", "new"}
        tier.put("large", of("large", 900), None)
        assert keys(tier) == {"large"}
        assert of("named", 500).sha256 in contents(files), "its bytes stay with the job"

    def test_a_bound_that_was_lowered_holds_after_the_first_sweep(self, tmp_path):
        with folders(tmp_path) as files:
            tier = Disk(files, 1)
            for number in range(8):
                tier.put(f"{number}", of(f"{number}", seconds=1.0 + number), None)
            tier.pin("0", True)
        with folders(tmp_path) as files:
            tier = Disk(files, 0.3)
            tier.sweep(None)
            assert keys(tier) == {"0", "7", "6"}
            assert len(contents(files)) == 3
        with folders(tmp_path) as files:
            tier = Disk(files, 0)
            tier.sweep(None)
            assert keys(tier) == {"0"}, "what is pinned does not leave"

    @given(
        st.lists(
            st.one_of(
                st.tuples(
                    st.just("put"), st.integers(0, 9), st.integers(1, 40), st.sampled_from([0.0, 0.5, 2.0, 90.0])
                ),
                st.tuples(st.just("use"), st.integers(0, 9), st.integers(1, 3), st.none()),
                st.tuples(st.just("name"), st.integers(0, 9), st.none(), st.none()),
                st.tuples(st.just("pin"), st.integers(0, 9), st.booleans(), st.none()),
            ),
            max_size=40,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_it_is_greedy_dual_size_with_frequency(self, tmp_path_factory, steps):
        """Against the paper's few lines, with the named and the pinned in classes of their own."""
        with folders(tmp_path_factory.mktemp("gdsf")) as files:
            clock = Time()
            tier, bound = Disk(files, 0.0001, clock), 100
            model, age, named = {}, 0.0, set()

            def density(entry):
                return (entry["seconds"] or 1.0) / entry["bytes"]

            for number, (what, key, amount, seconds) in enumerate(steps):
                clock.now += 1
                key = f"file:{key}"
                if what == "put":
                    made = result(f"{number}", amount, seconds=seconds)
                    size, old = len(made.data), model.pop(key, None)
                    pinned = old["pinned"] if old else False
                    fits = size <= bound - sum(entry["bytes"] for entry in model.values() if entry["pinned"])
                    if fits:
                        order = sorted(
                            (entry["named"], entry["worth"], entry["used"], other)
                            for other, entry in model.items()
                            if not entry["pinned"]
                        )
                        while sum(entry["bytes"] for entry in model.values()) > bound - size:
                            _, worth, _, victim = order.pop(0)
                            del model[victim]
                            age = max(age, worth)
                        entry = model[key] = {"bytes": size, "seconds": seconds, "uses": 1, "used": clock.now}
                        entry |= {"pinned": pinned, "named": made.sha256 in named, "sha256": made.sha256}
                        entry["worth"] = age + density(entry)
                    assert tier.put(key, made, None) is fits
                elif what == "use":
                    tier.note_uses({key: amount})
                    if entry := model.get(key):
                        entry |= {"uses": entry["uses"] + amount, "used": clock.now}
                        entry["worth"] = max(entry["worth"], age + entry["uses"] * density(entry))
                elif what == "name" and key in model:
                    made = tier.get(key)
                    name_by_job(files, f"job {number}", made.data)
                    named.add(made.sha256)
                    for entry in model.values():
                        entry["named"] = entry["sha256"] in named
                elif what == "pin" and key in model:
                    tier.pin(key, amount)
                    model[key]["pinned"] = amount
                assert tier.keys() == {key: entry["pinned"] for key, entry in model.items()}
                assert tier.stats()["mb"] * 1e6 <= bound + 1e-6


class TestTheIndexFails:
    @pytest.fixture
    def fails_once(self, files):
        """The next transaction fails just before its end, as on a full disk."""

        def prepare(times=1):
            left, whole = [times], files.index._in_transaction

            def transaction(action):
                def then_fail(db):
                    done = action(db)
                    if left[0]:
                        left[0] -= 1
                        raise no_pages()
                    return done

                return whole(then_fail)

            files.index._in_transaction = transaction

        return prepare

    def test_nothing_is_half_done(self, files, tier, fails_once):
        for name in "ab":
            tier.put(name, of(name, 500), None)
        files.index.make_room = lambda path, size: False
        fails_once()
        with pytest.raises(OSError) as refused:  # noqa: PT011
            tier.put("c", of("c", 500), None)
        assert refused.value.errno == errno.ENOSPC
        assert keys(tier) == {"a", "b"}
        assert contents(files) == {of(name, 500).sha256 for name in "ab"}
        assert counters(tier)["evictions"] == 0

    def test_what_is_done_in_a_second_try_is_counted_once(self, files, tier, fails_once, clock):
        tier.put("expires", of("expires", 300), 1.0)
        for name in "ab":
            tier.put(name, of(name, 300), None)
        clock.now += 2
        files.index.make_room = lambda path, size: True
        fails_once()
        assert tier.put("c", of("c", 700), None) is True
        assert (counters(tier)["evictions"], counters(tier)["expirations"]) == (1, 1)

    def test_what_only_reads_never_fails(self, files, tier):
        tier.put("key", of("key"), None)
        files.index.close()
        assert (tier.get("key"), "key" in tier) == (None, False)
        tier.note_uses({"key": 1})


class TestAFullDisk:
    """1 MB of results, and the tier may hold ten times as much."""

    @pytest.fixture
    def full_disk(self, files, clock, monkeypatch):
        files.system.capacity = 1000 * KB
        monkeypatch.setattr(disk_module, "_SLACK", 0)
        monkeypatch.setattr(files.blobs, "free_space", files.system.free)
        tier = Disk(files, 10, clock)

        def put(key, kilobytes=200, **facts):
            clock.now += 1
            return tier.put(key, of(key, kilobytes, **facts), None)

        tier.add = put
        return tier

    def left(self, files):
        return sum(path.stat().st_size for path in (files.data_dir / "results").iterdir()) // KB

    def test_the_longest_unused_make_room_and_as_few_as_will_do(self, files, full_disk):
        for name in "abcde":
            full_disk.add(name, seconds=1000.0 if name == "a" else 0.1)
        full_disk.add("f", 300)
        assert keys(full_disk) == {"c", "d", "e", "f"}
        full_disk.note_uses({"c": 1})
        full_disk.add("g")
        assert keys(full_disk) == {"c", "e", "f", "g"}
        assert self.left(files) == 900

    def test_then_what_the_oldest_jobs_name_and_never_what_is_pinned(self, files, full_disk):
        for name in ("pinned", "job 1", "job 2", "cached", "also job 2"):
            full_disk.add(name)
        full_disk.pin("pinned", True)
        name_by_job(files, "1", of("job 1", 200).data)
        name_by_job(files, "2", of("job 2", 200).data, shape=of("also job 2", 200).data)
        name_by_job(files, "3", of("pinned", 200).data)
        full_disk.add("x")
        assert keys(full_disk) == {"pinned", "job 1", "job 2", "also job 2", "x"}
        full_disk.add("y", 400)
        assert keys(full_disk) == {"pinned", "job 2", "also job 2", "y"}
        assert files.blobs.missing == {of("job 1", 200).sha256}
        full_disk.add("z", 800)
        assert keys(full_disk) == {"pinned", "z"}
        assert files.blobs.missing == {of(name, 200).sha256 for name in ("job 1", "job 2", "also job 2")}
        assert full_disk.stats()["damaged"] == 0

    def test_what_could_not_fit_takes_nothing(self, files, full_disk):
        for name in "abc":
            full_disk.add(name)
        full_disk.pin("a", True)
        with pytest.raises(OSError) as refused:  # noqa: PT011
            full_disk.add("large", 900)
        assert refused.value.errno == errno.ENOSPC
        assert keys(full_disk) == {"a", "b", "c"}
        assert len(contents(files)) == 3

    def test_a_job_s_file_makes_room_for_itself_and_its_shape_only_if_there_is_any(self, files, full_disk):
        full_disk.add("pinned", 500)
        full_disk.pin("pinned", True)
        file, shape = of("file", 300).data, of("shape", 300).data
        name_by_job(files, "job", file, shape)
        assert (files.blobs.missing, self.left(files)) == ({digest(shape)}, 800)

    def test_room_is_made_for_an_upload_and_for_the_index_too(self, files, full_disk):
        for name in "abcde":
            full_disk.add(name)
        picture = of("picture", 150).data
        files.system.at["write"] = [faults.fails(full())]
        files.keep_upload("job.png", picture, digest(picture))
        assert keys(full_disk) == {"b", "c", "d", "e"}
        assert (files.uploads_dir / "job.png").read_bytes() == picture
        assert full_disk.make_room(files.data_dir / "index.db", 300 * KB) is True
        assert keys(full_disk) == {"c", "d", "e"}

    def test_room_is_made_for_a_folder_that_could_not_be_made(self, files, full_disk):
        full_disk.add("a")
        files.system.capacity = 200 * KB
        assert full_disk.make_room(files.outputs_dir / "a job" / "mask.png", 100) is True

    def test_on_another_disk_nothing_here_helps(self, files, full_disk, monkeypatch):
        full_disk.add("a")
        monkeypatch.setattr(files.blobs, "same_disk", lambda path: False)
        assert full_disk.make_room(files.uploads_dir / "job.png", 100) is False
        assert keys(full_disk) == {"a"}

    def test_a_quota_is_met_in_the_same_way(self, files, full_disk, monkeypatch):
        """There is room on the disk, and yet it is refused."""
        for name in "abc":
            full_disk.add(name)
        monkeypatch.setattr(files.blobs, "free_space", lambda: 10**12)
        files.system.at["write"] = [faults.fails(OSError(errno.EDQUOT, "quota exceeded"))]
        assert full_disk.add("d", 300) is True
        assert keys(full_disk) == {"c", "d"}

    def test_what_is_being_delivered_is_not_taken(self, files, full_disk):
        for name in "abcde":
            full_disk.add(name)
        with files.blobs.holding((of("a", 200).sha256, of("a", 200).data)):
            full_disk.add("f", 400)
            assert keys(full_disk) == {"a", "d", "e", "f"}


class TestBothTiers:
    """Memory in front of the disk."""

    @pytest.fixture
    def results(self, tier, clock):
        return Results(LRUCache(max_size=100, default_ttl_seconds=60.0, clock=clock), {}, tier)

    @staticmethod
    def compute(results, key, text, calls=None):
        def run():
            if calls is not None:
                calls.append(text)
            return of(text)

        return results.get_or_compute(key, run)

    def test_what_the_disk_has_is_a_hit_and_moves_up_with_what_is_left_of_its_time(self, results, clock):
        self.compute(results, "key", "made")
        clock.now += 50
        results.clear("memory")
        assert self.compute(results, "key", "not again").data == of("made").data
        assert results.lru.peek("key") is not None
        clock.now += 9
        assert results.find("key") is not None
        clock.now += 1
        assert (results.lru.peek("key"), results.find("key")) == (None, None)
        stats = results.stats()
        assert (stats["hits"], stats["misses"]) == (2, 1)

    @pytest.mark.parametrize("drop", [Results.clear, lambda results: results.delete("key")], ids=["clear", "delete"])
    def test_what_is_looked_for_in_the_middle_of_a_clear_does_not_survive_it(self, results, drop, monkeypatch):
        """Another thread asks when one tier has been cleared and the other has not: it may have the old value, and
        nobody has it afterwards."""
        self.compute(results, "key", "old")
        real = {"clear": results.disk.clear, "delete": results.disk.delete}
        memory = {"clear": results.lru.clear, "delete": results.lru.delete}

        def between(call):
            def ask_then_drop(*key):
                elsewhere(lambda: self.compute(results, "key", "old again"))()
                return call(*key)

            return ask_then_drop

        for name in real:
            monkeypatch.setattr(results.disk, name, between(real[name]))
            monkeypatch.setattr(results.lru, name, between(memory[name]))
        drop(results)
        monkeypatch.undo()
        calls = []
        self.compute(results, "key", "new", calls)
        assert results.find("key") in (of("new"), of("old again")), "one that was begun in the middle may stay"
        assert of("old").sha256 not in {
            value.sha256 for value in (results.find("key"), results.disk.get("key")) if value
        }

    def test_of_a_deleted_picture_nothing_comes_back_either(self, results, monkeypatch):
        picture = "f" * 64
        results.get_or_compute("key", lambda: result("made of it", sources=[picture]))
        forget = results.disk.forget

        def ask_then_forget(keys):
            elsewhere(lambda: results.find("key"))()
            forget(keys)

        monkeypatch.setattr(results.disk, "forget", ask_then_forget)
        results.forget([picture], [], lambda key, sources: False)
        assert results.find("key") is None

    def test_damage_is_met_by_making_it_again(self, files, results):
        self.compute(results, "key", "made")
        results.clear("memory")
        change_bytes(files.blobs.path(of("made").sha256), b"damaged")
        calls = []
        assert self.compute(results, "key", "made", calls).data == of("made").data
        assert (calls, results.stats()["disk"]["damaged"]) == (["made"], 1)
        results.clear("memory")
        assert self.compute(results, "key", "made", calls).data == of("made").data
        assert calls == ["made"], "it is on the disk again"

    def test_a_disk_that_takes_nothing_keeps_nobody_from_a_result(self, files, results, caplog):
        for moment in ("write", "written", "rename", "sync_folder"):
            files.system.at[moment] = [faults.fails(faults.unreadable())]
            assert self.compute(results, moment, moment) == of(moment)
        assert "could not be kept on the disk" in caplog.text
        assert (len(results.disk), contents(files)) == (0, set())

    def test_readers_writers_and_clears_at_once(self, files, results):
        """Threads that do everything to few keys: no error, no wrong answer, and in the end what the index says."""

        def work(seed):
            for number in range(40):
                key = f"{(seed * 7 + number * 3) % 5}"
                value = self.compute(results, key, key)
                assert value.data == of(key).data
                if number % 11 == seed:
                    results.clear(("memory", "disk", "all")[number % 3])
                if number % 7 == seed:
                    results.delete(key)
                if number % 5 == seed:
                    name_by_job(files, f"{seed}", of(key).data)
                if number % 13 == seed:
                    drop_job(files, f"{seed}")

        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(work, seed) for seed in range(6)]:
                done.result()
        assert contents(files) == files.index.all_named()
        assert (files.blobs.missing, results.stats()["disk"]["damaged"]) == (set(), 0)
        assert not files.blobs._held
        assert not results.disk._claims


def test_the_clock_begins_with_the_time_of_day():
    assert Clock()() == pytest.approx(time.time(), abs=5)
