"""Fixtures: server processes that tests talk to over real HTTP."""

import numpy as np
import pytest
from live_server import running_server, scripted_server

collect_ignore_glob = ["*conftest.py"]
"""There are several of that name, and none holds doctests."""


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run what takes minutes: 20,000 cases against the API, …")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long; only with --slow")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    """A server as it is shipped, with the built-in model, shared by the tests that change no settings."""
    with running_server(tmp_path_factory.mktemp("studio")) as client:
        yield client


@pytest.fixture
def scripted(tmp_path):
    """A server whose runs the test counts, holds and fails."""
    with scripted_server(tmp_path) as client:
        yield client


@pytest.fixture
def rng():
    return np.random.default_rng(7)
