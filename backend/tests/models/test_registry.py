"""The list of models, and the device that one runs on."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from models import registry
from models.base import Model, ModelUnavailableError, resolve_device


class NeedsWeights(Model):
    id = "needs-weights"
    licence = "MIT"
    reads = frozenset({"prompt", "image"})
    memory_mb = 42

    @classmethod
    def why_unavailable(cls, path):
        return None if path else "set ORFEAS_MODEL_PATH to the folder with its weights"

    def load(self):
        self.revision = "1"

    def generate(self, image, options, progress, cancelled):
        raise MemoryError


@pytest.fixture(autouse=True)
def own_list(monkeypatch):
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))


def test_the_built_in_model_is_always_there():
    assert "builtin" in registry.ids()
    row = registry.describe("builtin", None)
    assert row == {
        "available": True,
        "reason": None,
        "licence": "built in, MIT",
        "reads": ["image", "quality"],
        "memory_mb": row["memory_mb"],
    }
    assert row["memory_mb"] > 0


@pytest.mark.parametrize("entry", [NeedsWeights, f"{__name__}:NeedsWeights"])
def test_a_registered_model_is_listed_and_made(entry, tmp_path):
    registry.register("needs-weights", entry)
    assert "needs-weights" in registry.ids()
    missing, there = (registry.describe("needs-weights", path) for path in (None, tmp_path))
    assert not missing["available"]
    assert "ORFEAS_MODEL_PATH" in missing["reason"]
    assert there["available"]
    assert there["reads"] == ["image", "prompt"]
    model = registry.create("needs-weights", tmp_path, "cpu")
    assert (model.id, model.path, model.device) == ("needs-weights", tmp_path, "cpu")


def test_an_unknown_id_names_those_that_there_are():
    with pytest.raises(ValueError, match=r"no model 'nope'.*builtin"):
        registry.create("nope", None, "auto")


def test_importing_the_registry_imports_nothing_heavy():
    code = "import sys, models.registry; print([m for m in ('torch', 'cv2', 'scipy', 'trimesh') if m in sys.modules])"
    backend = Path(registry.__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], cwd=backend, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:3", "mps"])
def test_the_built_in_model_runs_on_the_cpu_and_says_so(device):
    model = registry.create("builtin", None, device)
    model.load()
    assert model.device == "cpu"
    assert model.revision


class TestDevice:
    @pytest.fixture
    def machine(self, monkeypatch):
        """A PyTorch that sees these graphics processors."""

        def has(cards=0, mps=False):
            cuda = SimpleNamespace(is_available=lambda: cards > 0, device_count=lambda: cards)
            backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps))
            monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, backends=backends))

        return has

    def test_cpu_needs_no_torch(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails
        assert resolve_device("cpu") == resolve_device("auto") == "cpu"
        with pytest.raises(ModelUnavailableError, match="not installed"):
            resolve_device("cuda")

    def test_auto_takes_the_best(self, machine):
        machine(cards=2, mps=True)
        assert resolve_device("auto") == "cuda"
        machine(mps=True)
        assert resolve_device("auto") == "mps"
        machine()
        assert resolve_device("auto") == "cpu"

    def test_what_is_asked_for_is_taken_or_refused(self, machine):
        machine(cards=2)
        assert resolve_device("cuda") == "cuda"
        assert resolve_device("cuda:1") == "cuda:1"
        with pytest.raises(ModelUnavailableError, match="cuda:2"):
            resolve_device("cuda:2")
        with pytest.raises(ModelUnavailableError, match="mps"):
            resolve_device("mps")
        machine(mps=True)
        assert resolve_device("mps") == "mps"
        with pytest.raises(ModelUnavailableError, match="no CUDA"):
            resolve_device("cuda:0")
