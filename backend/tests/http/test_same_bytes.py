"""Whatever is asked for in whatever order, and whatever becomes of the cache meanwhile: what is delivered with the
cache is what is delivered without it, byte for byte."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_process import house
from live_server import draw, encode

PICTURES = [encode(draw(mark=mark, size=(48, 64))) for mark in (11, 12)] + [encode(draw(mark=13).convert("RGB"))]

asks = st.fixed_dictionaries(
    {
        "picture": st.integers(0, len(PICTURES) - 1),
        "format": st.sampled_from(["stl", "glb", "obj", "ply", "3mf"]),
        "quality": st.sampled_from([1, 2]),
        "dimensions": st.sampled_from([{}, {"width": 30}, {"height": 50, "depth": 5}]),
        "target_faces": st.sampled_from([None, 500]),
    }
)
steps = st.lists(
    st.one_of(
        asks,
        st.sampled_from(["clear", "clear memory", "clear disk", "restart", "delete the last", "damage"]),
    ),
    min_size=3,
    max_size=10,
)


class Studio:
    """A server on a folder, that can be started again."""

    def __init__(self, folder, **environment):
        self.folder, self.environment = folder, environment
        self._open = ExitStack()
        self.last = None
        self.start()

    def start(self):
        self._open.close()
        self.client = self._open.enter_context(house(self.folder, ORFEAS_MODE="powerful_3d", **self.environment))

    def close(self):
        self._open.close()

    def deliver(self, picture, **wish):
        status = self.client.make(PICTURES[picture], **{name: value for name, value in wish.items() if value})
        assert status["status"] == "completed", status
        self.last = status["job_id"]
        return self.client.download(status)

    def disturb(self, how):
        if how.startswith("clear"):
            tier = how.partition(" ")[2] or "all"
            assert self.client.post(f"/api/cache/clear?tier={tier}").status_code == 200
        elif how == "restart":
            self.start()
        elif how == "damage":
            for path in sorted((self.folder / "results").iterdir())[:3]:
                path.write_bytes(path.read_bytes()[:-7] + b"damaged")
        elif self.last is not None:
            assert self.client("DELETE", f"/api/jobs/{self.last}").status_code == 200
            self.last = None


@pytest.fixture(scope="module")
def plain():
    """What a server without a cache delivers, asked for once each: it makes everything anew."""
    with tempfile.TemporaryDirectory() as folder:
        studio, known = Studio(Path(folder), DISABLE_RESULT_CACHE="1", CACHE_DISK_MB="0"), {}

        def deliver(**ask):
            key = repr(sorted(ask.items()))
            if key not in known:
                known[key] = studio.deliver(**ask)
            return known[key]

        yield deliver
        studio.close()


def check(plain, sequence, **environment):
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(Path(folder), **environment)
        try:
            for step in sequence:
                if isinstance(step, str):
                    studio.disturb(step)
                else:
                    assert studio.deliver(**step) == plain(**step)
        finally:
            studio.close()


ROOMS = [{}, {"CACHE_MAX_MEMORY_MB": "0.2", "CACHE_DISK_MB": "0.5"}, {"CACHE_MAX_MEMORY_MB": "0"}]


@pytest.mark.parametrize("room", ROOMS, ids=["room for all", "little room", "disk alone"])
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(sequence=steps)
def test_the_cache_changes_no_byte(plain, room, sequence):
    check(plain, sequence, **room)


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS, ids=["room for all", "little room", "disk alone"])
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(sequence=steps)
def test_the_cache_changes_no_byte_in_many_orders(plain, room, sequence):
    check(plain, sequence, **room)
