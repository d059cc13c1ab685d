"""A server in the test's own process, with models that the test holds, watches and ends; no port, no start-up time."""

from __future__ import annotations

import io
import queue
import threading
from contextlib import contextmanager
from json import loads
from types import SimpleNamespace

import shapes
from live_server import PATIENCE, Client

from models import registry
from models.base import GenerationCancelledError, Model


class Run:
    """One run of a puppet: what it was given, and how it ends."""

    def __init__(self, model, image, options):
        self.model, self.image, self.options = model, image, options
        self.over, self.cancelled = threading.Event(), threading.Event()
        self.error = None

    def end(self, error=None):
        self.error = error
        self.over.set()


class Stage:
    """What several puppets share: every run in order, and whether runs wait for the test."""

    def __init__(self, hold=False):
        self.hold = hold
        self.runs: list[Run] = []
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self._held: queue.Queue[Run] = queue.Queue()

    def next_run(self) -> Run:
        return self._held.get(timeout=PATIENCE)

    def idle(self) -> bool:
        """Whether no run waits for the test to meet it."""
        return self._held.empty()

    def perform(self, run, cancelled):
        self.runs.append(run)
        if not self.hold:
            return
        self._held.put(run)
        while not run.over.wait(0.01):
            if cancelled():
                run.cancelled.set()
                raise GenerationCancelledError
        if run.error is not None:
            raise run.error


def puppet(stage, model_id="puppet", *, on="cpu", **facts) -> type[Model]:
    """A model whose box is the wider, the more of the picture is the object, and the deeper, the more views it has."""

    class Puppet(Model):
        id = model_id
        licence = "MIT"
        reads = frozenset({"image", "quality", "seed"})

        def load(self):
            stage.loads.append(self.id)
            self.device, self.revision = on, "1"

        def unload(self):
            stage.unloads.append(self.id)

        def generate(self, image, options, progress, cancelled):
            stage.perform(Run(self, image, options), cancelled)
            progress(0.5, "half way")
            share = 0.0 if image is None else float((image[..., 3] > 127).mean())
            return shapes.box((0, 0, 0), (1 + share, 1, 1 + len(options.views)))

    for name, value in facts.items():
        setattr(Puppet, name, value)
    return Puppet


class InProcess(Client):
    """Asks a server's Flask app what `Client` asks a process, with the same words."""

    def __init__(self, server):
        self.server = server
        self._app = server.app.test_client()

    def __call__(self, method, path, *, params=None, json=None, data=None, files=None, headers=None):
        if files is not None:
            parts = {name: (io.BytesIO(sent[1]), sent[0]) for name, sent in files.items()}
            data = {**(data or {}), **parts}
            headers = {"Content-Type": "multipart/form-data", **(headers or {})}
        answer = self._app.open(
            path, method=method, query_string=params, json=json, data=data,
            headers={"Host": "127.0.0.1", **(headers or {})},
        )  # fmt: skip
        return SimpleNamespace(
            status_code=answer.status_code,
            headers=answer.headers,
            content=answer.data,
            text=answer.data.decode(errors="replace"),
            json=lambda: loads(answer.data),
        )


def settings(data_dir, **environment):
    """Those of a server that loads its first puppet."""
    from settings import load_settings

    return load_settings({"DATA_DIR": str(data_dir), "LOG_LEVEL": "WARNING", **environment}, env_file=None)


@contextmanager
def house(data_dir, *models, load=True, **environment):
    """A server with these models in its registry, the first of them the default; its client."""
    from main import OrfeasUnifiedServer

    before = dict(registry._MODELS)
    for model in models:
        registry.register(model.id, model)
    if models:
        environment = {"ORFEAS_MODEL": models[0].id, **environment}
    try:
        server = OrfeasUnifiedServer(settings(data_dir, **environment))
        try:
            if load:
                server.load_model()
            yield InProcess(server)
        finally:
            server.close()
    finally:
        registry._MODELS.clear()
        registry._MODELS.update(before)


class _Conductor:
    """A stage, by the names that a scripted server's conductor has."""

    def __init__(self, stage):
        self._stage = stage
        self.next_run = stage.next_run

    @property
    def runs(self):
        return len(self._stage.runs)

    @property
    def hold(self):
        return self._stage.hold

    @hold.setter
    def hold(self, hold):
        self._stage.hold = hold


@contextmanager
def scripted_house(folder, **environment):
    """What `scripted_server` is, for tests that end no process: it starts much sooner."""
    stage = Stage()
    with house(folder / "data", puppet(stage, "scripted"), **environment) as client:
        client.conductor = _Conductor(stage)
        yield client


def until(condition):
    """Wait for what another thread brings about, and nobody signals."""
    pause = threading.Event()
    for _ in range(PATIENCE * 100):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never came about")
