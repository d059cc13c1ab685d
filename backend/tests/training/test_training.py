"""The training itself: checkpoints, exports, the pool of views, errors and ends; one command trains and exports."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch

ROOT = Path(__file__).resolve().parents[3]
pytest.importorskip("embreex", reason="training needs training/requirements.txt")
sys.path.insert(0, str(ROOT / "training"))

import torch  # noqa: E402

import checkpoint  # noqa: E402
import data  # noqa: E402
import export  # noqa: E402
import solids  # noqa: E402
import train  # noqa: E402
import validate  # noqa: E402
from models.builtin.network import NetworkConfig  # noqa: E402
from models.builtin.weights import FOLDER, SCALE, load, unpacked  # noqa: E402
from network import DepthNetwork  # noqa: E402

QUICK = ["--device", "cpu", "--batch", "2", "--checks", "1", "--pool", "2", "--size", "24"]


@pytest.fixture(scope="module")
def shard():
    return np.tile(data.Source([], 0).views(np.random.default_rng(0), 8), 16)


@pytest.fixture
def run(tmp_path, shard):
    """The folder of a run whose pool has a shard of each worker, so that nothing has to wait for one."""
    (tmp_path / "run" / "pool").mkdir(parents=True)
    for number in range(2):
        np.save(tmp_path / "run" / "pool" / f"{number}-00000.npy", shard)
    return tmp_path / "run"


def done(script, run, *options):
    line = [sys.executable, str(ROOT / "training" / script), "--run", str(run), *options]
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


def arguments(run, *options):
    """The command line as the trainer reads it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["train.py", "--run", str(run), "--device", "cpu", *options])
        return train.options()


def save(run, size=24, step=0):
    """A checkpoint of a network that has made a step."""
    network, average = (DepthNetwork(NetworkConfig(size=size)) for _ in range(2))
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    run.mkdir(exist_ok=True)
    state = {"step": step, "minutes": 0.0, "views": 0}
    checkpoint.save(run, network, average, optimizer, state, {"size": size, "before": None})
    return network, average, optimizer


class TestCheckpoint:
    def test_is_small_and_comes_back_as_float32(self, tmp_path):
        network, _, optimizer = save(tmp_path, NetworkConfig().size)
        assert (tmp_path / checkpoint.NAME).stat().st_size < 64_000_000
        again, _, moments, *_ = train.beginning(arguments(tmp_path))
        for one, two in zip(network.parameters(), again.parameters(), strict=True):
            assert two.dtype == torch.float32
            assert torch.allclose(one, two, rtol=1e-3, atol=1e-6)
        for one, two in zip(optimizer.state.values(), moments.state.values(), strict=True):
            assert two["exp_avg_sq"].dtype == torch.float32
            assert torch.allclose(one["exp_avg_sq"], two["exp_avg_sq"], rtol=1e-2, atol=0)
            assert two["step"] == 1

    def test_those_in_float32_load_still(self, tmp_path):
        network, average, optimizer = save(tmp_path)
        parts = {"network": network, "average": average, "optimizer": optimizer}
        old = {name: part.state_dict() for name, part in parts.items()}
        settings = {"size": 24, "before": None}
        state = {"step": 7, "minutes": 2.5, "views": 14}
        torch.save({**old, "state": state, "settings": settings}, tmp_path / checkpoint.NAME)
        again, slow, moments, found, _ = train.beginning(arguments(tmp_path, "--size", "24"))
        assert found == state
        for one, two in ((network, again), (average, slow)):
            assert all(map(torch.equal, one.parameters(), two.parameters()))
        assert torch.equal(moments.state_dict()["state"][0]["exp_avg"], old["optimizer"]["state"][0]["exp_avg"])


class TestExport:
    def network(self):
        torch.manual_seed(4)
        network = DepthNetwork(NetworkConfig(size=24, trunk=1, trunk_width=64))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(0, 0.1)
            network.down[0][0].first.weight[3] = 0
            network.down[0][0].first.weight[4] = 1e-7
        return network

    def in_float16(self, folder, network):
        """As an earlier version exported it."""
        data = safetensors.torch.save({name: tensor.half() for name, tensor in network.state_dict().items()})
        about = {"file": "depth.safetensors", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        about |= {"parameters": 1, "dtype": "float16", "config": asdict(network.config), "training": {"step": 9}}
        folder.mkdir()
        (folder / "depth.safetensors").write_bytes(data)
        (folder / "depth.json").write_text(json.dumps(about))
        return about

    def run(self, monkeypatch, *options):
        monkeypatch.setattr(sys, "argv", ["export.py", *map(str, options)])
        export.main()

    def test_each_weight_comes_back_within_half_a_step_of_its_channel(self):
        tensors = self.network().state_dict()
        packed = export.packed(tensors)
        again = unpacked(safetensors.numpy.load(safetensors.torch.save(packed)))
        assert again.keys() == tensors.keys()
        for name, tensor in tensors.items():
            back = torch.from_numpy(again[name])
            assert back.dtype == torch.float32
            scale = packed.get(name + SCALE)
            if scale is None:
                assert torch.equal(back, tensor.half().float())
                continue
            assert packed[name].dtype == torch.int8
            assert scale.shape == tensor.shape[:1]
            channels = tensor.flatten(1)
            off = (back.flatten(1) - channels).abs()
            assert (off <= 0.5001 * channels.abs().amax(1, keepdim=True) / 127).all()
        assert "stem.weight.scale" in packed
        assert not any(name.endswith((".bias.scale", "norm.weight.scale", ".place.scale")) for name in packed)

    def test_float16_is_rounded_to_what_a_checkpoint_gives(self, tmp_path, monkeypatch):
        network = self.network()
        optimizer = torch.optim.AdamW(network.parameters())
        settings = {"size": 24, "config": asdict(network.config)}
        (tmp_path / "run").mkdir()
        checkpoint.save(tmp_path / "run", network, network, optimizer, {"step": 9}, settings)
        about = self.in_float16(tmp_path / "old", network)
        self.run(monkeypatch, "--run", tmp_path / "run", "--to", tmp_path / "one")
        (tmp_path / "credits").write_text("Somebody: CC BY 4.0\n\nOthers: CC0\n")
        self.run(monkeypatch, "--from", tmp_path / "old", "--to", tmp_path / "two", "--credits", tmp_path / "credits")
        one, two = (tmp_path / name / "depth.safetensors" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        manifest = json.loads((tmp_path / "two" / "depth.json").read_text())
        assert manifest["bytes"] == two.stat().st_size < 0.6 * about["bytes"]
        assert manifest["sha256"] == load(tmp_path / "two").sha256
        assert manifest["training"] == {"step": 9}
        assert manifest["credits"] == ["Somebody: CC BY 4.0", "Others: CC0"]
        assert manifest["parameters"] == sum(parameter.numel() for parameter in network.parameters())
        assert manifest["rounded_from"] == about["sha256"]

    def test_it_rounds_only_what_is_whole_and_in_float16(self, tmp_path, monkeypatch):
        self.in_float16(tmp_path / "old", self.network())
        self.run(monkeypatch, "--from", tmp_path / "old", "--to", tmp_path / "new")
        with pytest.raises(SystemExit, match="not in float16"):
            self.run(monkeypatch, "--from", tmp_path / "new", "--to", tmp_path / "newer")
        with (tmp_path / "old" / "depth.safetensors").open("ab") as file:
            file.write(b"more")
        with pytest.raises(SystemExit, match="damaged"):
            self.run(monkeypatch, "--from", tmp_path / "old", "--to", tmp_path / "newer")
        assert not (tmp_path / "newer").exists()

    def test_weights_of_no_use_are_not_exported(self):
        with pytest.raises(SystemExit, match=r"stem\.bias is not finite"):
            export.packed({"stem.bias": torch.tensor([1.0, torch.nan])})


class Recorder:
    """A source that tells what its random numbers are, and ends the worker that asks for too many shards."""

    def __init__(self, shard, most=1):
        self.shard, self.most, self.drawn = shard, most, []

    def views(self, random, count):
        if len(self.drawn) == self.most:
            raise StopIteration
        self.drawn.append(random.integers(2**60))
        return self.shard


def worked(folder, number, seed, shard, capacity=2, most=1):
    source = Recorder(shard, most)
    with pytest.raises(StopIteration):
        data.work(folder, number, seed, source, capacity)
    return source.drawn


class TestPool:
    def test_every_worker_of_every_call_has_views_of_its_own(self, tmp_path, shard):
        def call(folder):
            folder.mkdir(exist_ok=True)
            with (folder / "log.jsonl").open("a") as log:
                seed = train.seeds(1, log, 0)  # as a call that was killed before it saved anything
            return [worked(folder, number, seed, shard)[0] for number in range(3)]

        first, second = call(tmp_path / "one"), call(tmp_path / "one")
        assert len({*first, *second}) == 6
        assert call(tmp_path / "two") == first

    def test_a_worker_replaces_its_oldest_shard_first(self, tmp_path, shard):
        for number, changed in enumerate((30, 10, 20)):
            np.save(tmp_path / f"0-{number:05}.npy", shard)
            os.utime(tmp_path / f"0-{number:05}.npy", (changed, changed))
        worked(tmp_path, 0, [1], shard, capacity=3, most=2)
        assert [(tmp_path / f"0-{number:05}.npy").stat().st_mtime < 100 for number in range(3)] == [True, False, False]

    @pytest.mark.parametrize("kept", [0, 50, 5000])
    def test_a_broken_shard_is_skipped_and_deleted(self, run, kept):
        broken = run / "pool" / "0-00000.npy"
        broken.write_bytes(broken.read_bytes()[:kept])
        pool = data.Pool(run / "pool")
        views = data.Resident(pool, [1], "cpu", 2)
        for _ in range(3):
            assert views.batch(16, 24).picture.shape == (16, 3, 24, 24)
        assert not broken.exists()
        assert len(pool.files()) == 1
        assert views.places.keys() == set(pool.files())

    def test_a_pool_that_nobody_fills_is_not_waited_for(self, run):
        with pytest.raises(SystemExit, match="no worker is alive"):
            data.Pool(run / "pool").wait(3, lambda: False)
        data.Pool(run / "pool").wait(2, lambda: False)

    def test_a_shard_that_is_replaced_takes_its_own_place(self, run, shard):
        views = data.Resident(data.Pool(run / "pool"), [1], "cpu", 2)
        for _ in range(3):
            views.batch(2, 24)
        first, second = sorted(views.places)
        assert {place for place, _ in views.places.values()} == {0, 1}
        other = shard.copy()
        other["mask"] = 7
        np.save(second, other)
        np.save(run / "pool" / "2-00000.npy", shard)  # one more than there is room for
        place, before = views.places[second]
        os.utime(second, ns=(before + 1, before + 1))
        views.pool = data.Pool(run / "pool")  # which looks again at once
        for _ in range(3):
            views.batch(2, 24)
        assert views.places.keys() == {first, second}
        assert views.places[second][0] == place
        assert (views.fields["mask"][place * data.SHARD : (place + 1) * data.SHARD] == 7).all()
        assert not (views.fields["mask"][: 2 * data.SHARD] == 7).all()

    def test_light_without_loaders_leaves_the_threads_alone(self, run):
        before = torch.get_num_threads()
        torch.set_num_threads(3)
        next(data.batches(data.Pool(run / "pool"), [1], 2, 2, 24, 0, "cpu"))
        assert torch.get_num_threads() == 3
        torch.set_num_threads(before)


class TestOneLineErrors:
    def refused(self, run, *options):
        with pytest.raises(SystemExit) as error:
            train.beginning(arguments(run, *options))
        return str(error.value)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(
                ("--size", "50"),
                ("--minutes", "nan"),
                ("--minutes", "0"),
                ("--total-minutes", "-1"),
                ("--workers", "-1"),
            ),
            *(("--loaders", "-1"), ("--threads", "0"), ("--seed", "-5"), ("--rate", "-1"), ("--extra-share", "2")),
            *(("--device", "nonsense"), ("--batch", "0"), ("--pool", "half"), ("--run", __file__)),
        ],
    )
    def test_an_option_of_no_use(self, tmp_path, capsys, option, value):
        with pytest.raises(SystemExit, match="2"):
            arguments(tmp_path, option, value)
        assert option in capsys.readouterr().err.splitlines()[-1]

    def test_weights_of_another_size(self, tmp_path):
        assert "made with --size 72, not 96" in self.refused(tmp_path, "--size", "96", "--start", str(FOLDER))

    def test_weights_that_are_not_there(self, tmp_path):
        assert "depth.json is missing" in self.refused(tmp_path, "--start", str(tmp_path))

    def test_a_checkpoint_of_another_size(self, tmp_path):
        save(tmp_path)
        assert "made with --size 24, not 48" in self.refused(tmp_path, "--size", "48")

    def test_no_checkpoint_to_export(self, tmp_path):
        with pytest.raises(SystemExit, match="is missing"):
            checkpoint.load(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"not one", None])
    def test_a_checkpoint_that_cannot_be_read(self, tmp_path, content):
        if content is None:
            save(tmp_path)
            content = (tmp_path / checkpoint.NAME).read_bytes()[:100_000]
        (tmp_path / checkpoint.NAME).write_bytes(content)
        with pytest.raises(SystemExit, match="cannot be read"):
            checkpoint.load(tmp_path)

    def test_no_views_and_no_workers(self, tmp_path):
        ended = done("train.py", tmp_path, *QUICK, "--workers", "0")
        assert ended.returncode == 1
        assert ended.stderr.startswith("there are too few views")
        assert ended.stderr.count("\n") == 1


def test_the_rate_rises_over_the_first_part_of_the_run_and_falls_after():
    rates = [train.rate(1, share) for share in (0, 0.015, 0.03, 0.5, 1)]
    assert rates == pytest.approx([0, 0.5, 1, 0.51, 0.02], abs=0.01)


@pytest.mark.parametrize("count", [1, 3])
def test_there_may_be_few_checks(tmp_path, count):
    checks = validate.Checks([solids.box((1, 1, 1), (1, 0, 0))], count, 24)
    scores = checks.report(DepthNetwork(NetworkConfig(size=24)), "cpu", tmp_path, {"step": 1})
    assert np.isfinite(list(scores.values())).all()
    assert {file.name for file in (tmp_path / "report").iterdir()} == {
        "made.png",
        "families.png",
        "meshes.png",
        "scores.json",
    }


@pytest.mark.slow
class TestEnding:
    """Workers and loaders hold the trainer's standard output: it ends when the last of them has."""

    def started(self, run):
        line = [sys.executable, str(ROOT / "training" / "train.py"), "--run", str(run), *QUICK]
        trainer = subprocess.Popen(line, stdout=subprocess.PIPE, start_new_session=True)
        seen = b""
        while b"step 1 " not in seen:
            seen += trainer.stdout.read1()
            assert trainer.poll() is None
        return trainer

    @pytest.mark.parametrize(("number", "everyone"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
    def test_a_signal_saves_the_checkpoint_and_leaves_no_worker(self, run, number, everyone):
        trainer = self.started(run)
        os.killpg(trainer.pid, number) if everyone else trainer.send_signal(number)
        said, _ = trainer.communicate(timeout=60)
        assert trainer.returncode == 128 + number
        assert "the checkpoint is saved" in said.decode()
        assert checkpoint.load(run)["state"]["step"] >= 1
        assert not (run / "report").exists()

    def test_an_error_ends_the_trainer_and_all_its_processes(self, run):
        (run / "checkpoint.part").mkdir()  # so that the first checkpoint cannot be written
        line = [sys.executable, str(ROOT / "training" / "train.py"), "--run", str(run), *QUICK]
        ended = subprocess.run([*line, "--check-minutes", "0"], capture_output=True, text=True, timeout=60)
        assert ended.returncode == 1
        assert "Is a directory" in ended.stderr

    def test_workers_end_with_a_trainer_that_is_killed(self, run):
        trainer = self.started(run)
        trainer.kill()
        trainer.communicate(timeout=60)
        assert trainer.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_one_command_trains_resumes_and_exports(tmp_path, run, monkeypatch):
    """A few steps twice, the second time from the checkpoint, then the files that the server loads."""

    def command(script, *options):
        ended = done(script, run, *options)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    short = ("--batch", "8", "--checks", "4", "--pool", "2", "--device", "cpu")
    first = command("train.py", "--start", str(FOLDER), "--workers", "0", "--loaders", "0", "--minutes", "0.03", *short)
    assert "going on" not in first
    assert "going on after" in command("train.py", "--minutes", "0.1", *short)
    report = run / "report"
    assert (report / "made.png").stat().st_size > 1000
    assert {"step", "made_err", "made_f"} <= json.loads((report / "scores.json").read_text()).keys()
    notes = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert any({"step", "minutes", "rate", "depth", "slope"} <= note.keys() for note in notes)

    command("export.py", "--to", str(tmp_path / "weights"))
    manifest = json.loads((tmp_path / "weights" / "depth.json").read_text())
    assert manifest["training"]["step"] > 0
    assert manifest["training"]["before"]["sha256"] == load(FOLDER).sha256
    assert manifest["bytes"] <= 23_000_000
    assert manifest["dtype"].startswith("int8")
    assert manifest["validation"].keys() >= {"made_err", "made_f"}
    assert load(tmp_path / "weights").sha256 == manifest["sha256"]
    assert {file.name for file in (tmp_path / "weights").iterdir()} == {"depth.safetensors", "depth.json"}

    (report / "scores.json").write_text(json.dumps({"step": -1, "made_err": 0.5}))
    monkeypatch.setattr(sys, "argv", ["export.py", "--run", str(run), "--to", str(tmp_path / "weights")])
    export.main()
    assert json.loads((tmp_path / "weights" / "depth.json").read_text())["validation"] == {}
