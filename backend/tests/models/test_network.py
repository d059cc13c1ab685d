"""The learned depth: the network, its weights, what happens without them, and that nothing it says opens the mesh."""

import hashlib
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from figures import assert_sound, cut_out, disc, drawn, made, mug, random_alpha, ring, two_parts
from PIL import Image
from scipy.spatial import cKDTree

import main
from models.builtin import weights
from models.builtin.depth import _both, _shown, _stepped, upright
from models.builtin.model import BuiltinModel
from models.builtin.network import DepthNetwork as InNumpy
from models.builtin.network import Depths, NetworkConfig
from models.builtin.silhouette import view
from settings import ROOT, load_settings

pytest.importorskip("torch", reason="the networks of these tests are made as in training")
sys.path.insert(0, str(ROOT / "training"))

import safetensors.torch
import torch

from network import DepthNetwork, from_files, thicker

SMALL = NetworkConfig(size=48, widths=(16, 16, 24, 32), blocks=(1, 1, 1, 1))


def write_weights(folder, network, tensors=None, **manifest):
    """What `training/export.py` writes, as far as the model reads it; in float16, unless there are `tensors`."""
    data = safetensors.torch.save(tensors or {name: tensor.half() for name, tensor in network.state_dict().items()})
    folder.mkdir(exist_ok=True)
    (folder / weights.WEIGHTS).write_bytes(data)
    config = {name: getattr(network.config, name) for name in NetworkConfig.__slots__}
    about = {"config": config, "sha256": hashlib.sha256(data).hexdigest(), **manifest}
    (folder / weights.MANIFEST).write_text(json.dumps(about))
    return folder


def rounded(network):
    """Its tensors, one of them as int8 with the scales of its channels."""
    tensors = {name: tensor.half() for name, tensor in network.state_dict().items()}
    weight = network.stem.weight.detach()
    scale = weight.abs().amax((1, 2, 3)) / 127
    whole = (weight / scale[:, None, None, None]).round().to(torch.int8)
    return {**tensors, "stem.weight": whole, "stem.weight.scale": scale}


def wild_network(strength, config=SMALL):
    """A network that says anything: the model must make a sound mesh of it all the same."""
    torch.manual_seed(3)
    network = DepthNetwork(config)
    with torch.no_grad():
        for parameter in network.local.parameters():
            parameter.normal_(0, strength)
    return network


def model_in(folder):
    model = BuiltinModel()
    model._folder = folder
    model.load()
    return model


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    return model_in(write_weights(tmp_path_factory.mktemp("wild") / "weights", wild_network(0.3)))


@pytest.fixture(scope="module")
def doubting(tmp_path_factory):
    network = wild_network(0.3)
    with torch.no_grad():
        network.whole[3].bias[5] = 20
    return model_in(write_weights(tmp_path_factory.mktemp("doubting") / "weights", network))


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return model_in(tmp_path_factory.mktemp("bare"))


def line(width):
    """The alpha of a slanting line, so many pixels wide."""
    return cv2.line(np.zeros((512, 512), np.uint8), (50, 100), (460, 350), 255, width, cv2.LINE_AA)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Torch's own are slow where other work waits for the cores, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def in_torch():
    """The shipped weights in the network of training."""
    network, sha256 = from_files(weights.FOLDER)
    assert sha256 == weights.load().sha256
    return InTorch(network)


@pytest.fixture
def shipped():
    model = BuiltinModel()
    model.load()
    return model


class TestNetwork:
    def inputs(self, size, count=2):
        torch.manual_seed(0)
        mask = torch.zeros(count, size, size)
        mask[:, 4:-4, 8:-8] = 1
        return torch.rand(count, 3, size, size), mask, torch.rand(count, size, size) * mask

    def test_an_untrained_one_returns_the_inflation(self):
        picture, mask, height = self.inputs(48)
        found = DepthNetwork(SMALL)(picture, mask, height)
        inside = height > 0.01
        assert torch.allclose(found.front[inside], height[inside], atol=1e-4)
        assert torch.allclose(found.back[inside], -height[inside], atol=1e-4)

    @pytest.mark.parametrize("size", [48, 72, 96])
    def test_any_multiple_of_24_will_do(self, size):
        found = wild_network(0.1, replace(SMALL, size=size))(*self.inputs(size))
        assert found.front.shape == found.back.shape == (2, size, size)
        assert found.doubt.shape == (2,)

    def test_the_front_is_never_behind_the_back(self):
        found = wild_network(2.0)(*self.inputs(48))
        assert (found.front >= found.back).all()

    def test_the_background_is_not_seen(self):
        picture, mask, height = self.inputs(48)
        network = wild_network(0.5)
        other = torch.where(mask[:, None] > 0, picture, 1 - picture)
        assert torch.equal(network(picture, mask, height).front, network(other, mask, height).front)

    def test_a_correction_of_nothing_changes_nothing(self):
        height = torch.linspace(0.01, 1, 50)
        assert torch.allclose(thicker(height, torch.zeros(50)), height, atol=1e-5)
        assert (thicker(height, torch.full((50,), -5.0)) >= 0).all()

    def test_a_trunk_can_be_put_into_a_network_that_is_trained(self):
        torch.manual_seed(1)
        old = wild_network(0.3)
        new = DepthNetwork(replace(old.config, trunk=2, trunk_width=64))
        missing = new.load_state_dict(old.state_dict(), strict=False).missing_keys
        assert missing
        assert all(name.startswith("trunk.") for name in missing)
        seen = torch.rand(2, 3, 48, 48), torch.ones(2, 48, 48), torch.rand(2, 48, 48)
        before, after = old(*seen), new(*seen)
        torch.testing.assert_close(after.front, before.front)
        torch.testing.assert_close(after.back, before.back)
        assert before.up is None
        torch.testing.assert_close(after.up.norm(dim=1), torch.ones(2))

    def test_which_way_is_up_follows_the_mirror(self):
        rgba = cut_out(drawn(mug, 256))
        shipped = weights.load()
        up, mirrored = (upright(shipped, view(np.ascontiguousarray(each))) for each in (rgba, rgba[:, ::-1]))
        assert np.linalg.norm(up) == pytest.approx(1)
        assert np.abs(up - mirrored * (-1, 1, 1)).max() < 0.02
        assert up[1] > 0.5

    def test_it_learns(self):
        """A few steps towards another depth: half of the way at least."""
        picture, mask, height = self.inputs(48)
        torch.manual_seed(1)
        network = DepthNetwork(SMALL)
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        losses = []
        for _ in range(25):
            found = network(picture, mask, height)
            loss = ((found.front - 0.7).abs() * mask).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 2


def shaded(rgba):
    """Lit from the upper left, as a round thing: a picture that the network trusts itself with."""
    y, x = np.mgrid[-1 : 1 : 1j * len(rgba), -1 : 1 : 1j * rgba.shape[1]]
    light = 0.15 + 0.85 * np.exp(-2 * ((x + 0.3) ** 2 + (y + 0.3) ** 2))
    return np.dstack([(rgba[..., :3] * light[..., None]).astype(np.uint8), rgba[..., 3]])


class InTorch:
    """The network of training, with the arrays of the one that runs it in numpy."""

    def __init__(self, network):
        self.network, self.config = network.eval(), network.config

    @torch.no_grad()
    def __call__(self, picture, mask, height):
        picture = np.ascontiguousarray(picture.transpose(0, 3, 1, 2))
        found = self.network(*map(torch.from_numpy, (picture, mask, height)))
        return Depths(*(part if part is None else part.numpy() for part in layers(found)))


def layers(found):
    return found.front, found.back, found.doubt, found.up


def in_numpy(network):
    tensors = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
    return InNumpy(network.config, tensors)


class TestForwardPass:
    """In numpy it is what it was in training."""

    def assert_same(self, one, two, off=1e-4):
        for mine, theirs in zip(layers(one), layers(two), strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                assert mine.dtype == np.float32
                assert mine.shape == theirs.shape
                assert np.isfinite(mine).all()
                assert np.abs(mine - theirs).max() < off

    @pytest.mark.parametrize(
        "config",
        [
            SMALL,
            replace(SMALL, size=72, attention=()),
            replace(SMALL, size=24, attention=(0, 1, 2, 3)),
            replace(SMALL, widths=(8, 16), blocks=(2, 1), trunk=2, trunk_width=128),
            replace(SMALL, size=96, blocks=(0, 1, 2, 3), trunk=1, trunk_width=64),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("count", [1, 3])
    def test_of_any_sizes(self, config, count, rng):
        torch.manual_seed(2)
        network = DepthNetwork(config)
        with torch.no_grad():
            for parameter in network.parameters():  # those that start at zero, too
                parameter.add_(torch.randn_like(parameter) * 0.05)
        size = config.size
        mask = rng.random((count, size, size), dtype=np.float32).round(1)
        seen = rng.random((count, size, size, 3), dtype=np.float32), mask, rng.random(mask.shape, np.float32) * mask
        found = in_numpy(network)(*seen)
        self.assert_same(found, InTorch(network)(*seen))
        assert np.ptp(found.front) > 0.1

    ALPHAS = (
        drawn(disc),
        drawn(mug, 200),
        drawn(ring, 96),
        drawn(two_parts),
        line(3),
        line(12),
        *map(random_alpha, ("noise", "holes", "gradient")),
    )

    @pytest.mark.parametrize("number", range(len(ALPHAS)))
    def test_of_the_shipped_weights(self, shipped, in_torch, number):
        alpha = self.ALPHAS[number]
        rgba = cut_out(alpha)
        rgba[..., :3] = np.random.default_rng(number).integers(0, 256, (*alpha.shape, 3)) // 2 + rgba[..., :3] // 2
        _, *seen = _shown(shipped._weights, view(rgba))
        found = shipped._weights.network(*_both(*seen))
        self.assert_same(found, in_torch(*_both(*seen)))

    @pytest.mark.parametrize("quality", [2, 7])
    @pytest.mark.parametrize("draw_on", [disc, ring])
    def test_the_meshes_are_those_of_torch(self, shipped, in_torch, bare, draw_on, quality):
        rgba = shaded(cut_out(drawn(draw_on)))
        found, inflated = (made(model, rgba, quality) for model in (shipped, bare))
        shipped._weights = weights.Weights(in_torch, "")
        expected = made(shipped, rgba, quality)
        size = np.ptp(expected.vertices, axis=0).max()
        assert np.array_equal(found.faces, expected.faces)
        assert np.abs(found.vertices - expected.vertices).max() < 1e-4 * size
        assert np.abs(found.vertices - inflated.vertices).max() > 0.03 * size, "the network has no say here"

    def test_a_server_that_makes_a_shape_has_no_torch(self, tmp_path):
        Image.fromarray(cut_out(drawn(mug, 128))).save(tmp_path / "mug.png")
        code = f"""
import sys, main, settings
server = main.OrfeasUnifiedServer(settings.load_settings({{"DATA_DIR": {str(tmp_path / "data")!r}}}))
server.load_model()
client = server.app.test_client()
with open({str(tmp_path / "mug.png")!r}, "rb") as picture:
    job = client.post("/api/generate-3d", data={{"image": (picture, "mug.png"), "quality": "2"}}).json
while job["status"] not in ("completed", "failed"):
    job = client.get(f"/api/job-status/{{job['job_id']}}?wait=10").json
print(job["status"], job["model_note"], server.shelf.default, "torch" in sys.modules)
server.close()
"""
        run = [sys.executable, "-c", code]
        found = subprocess.run(run, cwd=ROOT / "backend", capture_output=True, text=True, timeout=120)
        assert found.stdout == "completed None builtin False\n", found.stderr


class TestSoundness:
    @pytest.mark.parametrize("quality", [1, 5])
    @pytest.mark.parametrize(("draw_on", "euler"), [(disc, 2), (ring, 0), (mug, 0), (two_parts, 4)])
    def test_closed_with_a_handle_for_each_hole(self, wild, draw_on, euler, quality):
        found = assert_sound(made(wild, cut_out(drawn(draw_on)), quality))
        assert found.euler_number == euler

    @pytest.mark.parametrize("kind", ["noise", "chequers", "holes", "glass", "gradient"])
    def test_any_mask_gives_a_closed_mesh(self, wild, kind):
        assert_sound(made(wild, cut_out(random_alpha(kind)), 4))

    @pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (40, 60)])
    def test_a_mask_that_fills_the_picture(self, wild, shape):
        assert assert_sound(made(wild, cut_out(np.full(shape, 255)), 3)).euler_number == 2

    @pytest.mark.parametrize("which", ["wild", "shipped"])
    def test_no_step_at_the_silhouette(self, which, request):
        """Half of the thickness is reached no closer to the rim than a ball would reach it, give or take a little."""
        model = request.getfixturevalue(which)
        mesh = made(model, cut_out(drawn(disc)), 6)
        front, back = np.split(mesh.vertices.astype(float), 2)
        plane = mesh.uv[: len(front)] * (4, 2) - 1
        radius = np.linalg.norm(plane, axis=1)
        from_rim = radius.max() - radius
        thickness = front[:, 2] - back[:, 2]
        at_rim = thickness[from_rim < 0.004]
        assert len(at_rim) > 100
        assert np.median(at_rim) < 0.35 * np.median(thickness[(from_rim > 0.1) & (from_rim < 0.2)])

    def test_quality_changes_the_detail_not_the_shape(self, tmp_path):
        model = model_in(write_weights(tmp_path / "weights", wild_network(0.05)))
        low, high = (made(model, cut_out(drawn(mug)), quality) for quality in (2, 6))
        assert np.ptp(low.vertices, axis=0) == pytest.approx(np.ptp(high.vertices, axis=0), rel=0.1)

    def test_a_mirrored_picture_gives_the_mirrored_shape(self, wild):
        rgba = cut_out(drawn(mug))
        one, two = (made(wild, picture, 4) for picture in (rgba, rgba[:, ::-1]))
        for mesh, sign in ((one, 1), (two, -1)):
            assert np.ptp(mesh.vertices[:, 2]) > 0.2
            mesh.vertices[:, 0] *= sign
        off = cKDTree(one.vertices).query(two.vertices)[0]
        assert np.quantile(off, 0.99) < 0.02

    def test_same_picture_same_bytes_from_any_thread(self, wild):
        rgba = cut_out(drawn(mug))
        expected = made(wild, rgba).to_bytes()
        with ThreadPoolExecutor(3) as pool:
            assert all(mesh.to_bytes() == expected for mesh in pool.map(lambda _: made(wild, rgba), range(4)))
        again = model_in(wild._folder)
        assert made(again, rgba).to_bytes() == expected


class TestDoubt:
    """A network that doubts itself wholly leaves the inflation, whatever else it says."""

    @pytest.mark.parametrize("quality", [2, 7])
    @pytest.mark.parametrize("alpha", [drawn(disc), drawn(mug), line(3), line(6), line(12)])
    def test_its_shape_is_the_inflation(self, doubting, bare, alpha, quality):
        rgba = cut_out(alpha)
        found, expected = (made(model, rgba, quality).vertices for model in (doubting, bare))
        assert np.abs(found - expected).max() < 0.02 * np.ptp(expected[:, 2])

    def test_a_thin_part_is_no_foil_whatever_the_network_says(self, wild, bare):
        rgba = cut_out(line(4))
        found, expected = (np.ptp(made(model, rgba, 6).vertices[:, 2]) for model in (wild, bare))
        assert found > 0.5 * expected


class TestDepthSteps:
    """Where one part hides another, the depth jumps between two of the network's pixels, 10 nodes of this grid."""

    PIXEL, SIZE = 10.0, 240

    def layer(self, blur):
        """A disc half a unit in front of a plane, its edge as wide as the network leaves it."""
        y, x = np.mgrid[: self.SIZE, : self.SIZE] - self.SIZE / 2
        return 1 / (1 + np.exp((np.hypot(x, y) - 70) / blur)) * 0.5

    def steep(self, layer):
        return _stepped(layer, np.ones(layer.shape), self.PIXEL)

    def width(self, layer):
        """Nodes between a fifth and four fifths of the way up, along a line through the middle."""
        line = layer[self.SIZE // 2]
        return np.count_nonzero((line > 0.1) & (line < 0.4)) / 2

    def test_a_step_is_no_curtain(self):
        ramp = self.layer(self.PIXEL / 2)
        found = self.steep(ramp)
        assert self.width(found) < 0.6 * self.width(ramp)
        assert found.min() >= ramp.min() - 1e-6
        assert found.max() <= ramp.max() + 1e-6

    def test_its_contour_stays_where_it_was(self):
        ramp = self.layer(self.PIXEL / 2)
        area = [np.count_nonzero(layer > 0.25) for layer in (ramp, self.steep(ramp))]
        assert area[1] == pytest.approx(area[0], rel=0.02)

    def test_slopes_and_small_relief_stay(self):
        y, x = np.mgrid[: self.SIZE, : self.SIZE] / self.SIZE
        for layer in (1.5 * x - y, 0.01 * np.sin(40 * x) * np.sin(40 * y)):
            inside = np.s_[40:-40, 40:-40]
            assert np.allclose(self.steep(layer)[inside], layer[inside], atol=2e-3)


class TestRounded:
    def test_the_shipped_file_is_small(self):
        file = weights.FOLDER / weights.WEIGHTS
        about = json.loads((weights.FOLDER / weights.MANIFEST).read_text())
        assert file.stat().st_size == about["bytes"] < 23_000_000
        tensors = safetensors.torch.load_file(file)
        kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(weights.SCALE)}
        assert sum(tensor.numel() for tensor in kept.values()) == about["parameters"]
        assert (
            sum(tensor.numel() for tensor in kept.values() if tensor.dtype == torch.int8) > 0.98 * about["parameters"]
        )

    def test_whole_numbers_are_multiplied_by_the_scale_of_their_channel(self, tmp_path):
        network = wild_network(0.3)
        tensors = rounded(network)
        loaded = weights.load(write_weights(tmp_path, network, tensors)).network
        scale = tensors["stem.weight.scale"][:, None, None, None]
        weight, bias = loaded.stem
        assert weight.dtype == bias.dtype == np.float32
        assert np.array_equal(weight, (tensors["stem.weight"].float() * scale).permute(0, 2, 3, 1))
        assert np.array_equal(bias, network.stem.bias.half().float().detach())

    @pytest.mark.parametrize(
        "change",
        [
            {"stem.weight.scale": None},
            {"stem.weight.scale": torch.ones(17)},
            {"stem.weight.scale": torch.ones(16, 1)},
            {"stem.weight.scale": torch.ones(())},
            {"stem.weight.scale": torch.ones(16).half()},
            {"stem.weight.scale": torch.ones(16, dtype=torch.int8)},
            {"stem.weight.scale": torch.zeros(16)},
            {"stem.weight.scale": torch.full((16,), torch.nan)},
            {"stem.weight.scale": torch.full((16,), torch.inf)},
            {"stem.weight": torch.ones(16, 63, 3, 3, dtype=torch.int32)},
            {"stem.weight": torch.ones(16, 63, 3, 3)},
            {"stem.weight": None},
            {"stem.bias": torch.ones(16, dtype=torch.int8)},
            {"stem.bias": torch.tensor(1, dtype=torch.int8)},
            {"stem.bias.scale": torch.ones(16)},
            {"unheard_of.weight": torch.ones(2, 2, dtype=torch.int8), "unheard_of.weight.scale": torch.ones(2)},
        ],
        ids=", ".join,
    )
    def test_scales_that_do_not_fit_leave_the_inflation(self, tmp_path, change):
        network = wild_network(0.3)
        tensors = {name: tensor for name, tensor in {**rounded(network), **change}.items() if tensor is not None}
        model = model_in(write_weights(tmp_path / "weights", network, tensors))
        assert "without learned depth" in model.note
        assert "does not fit" in model.note
        assert model.revision.startswith("inflation-")
        bare = model_in(tmp_path / "nothing")
        rgba = cut_out(drawn(mug, 128))
        assert made(model, rgba, 1).to_bytes() == made(bare, rgba, 1).to_bytes()


class TestFallback:
    def damage(self, folder, how):
        file, manifest = folder / weights.WEIGHTS, folder / weights.MANIFEST
        data = file.read_bytes()
        if how == "one bit":
            file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        elif how == "cut short":
            file.write_bytes(data[: len(data) // 2])
        elif how == "empty":
            file.write_bytes(b"")
        elif how == "no weights":
            file.unlink()
        elif how == "no manifest":
            manifest.unlink()
        elif how == "torn manifest":
            manifest.write_text('{"sha256": "')
        elif how == "brackets":
            manifest.write_text("[" * 100_000)
        else:
            file.write_bytes(b"not tensors at all")
            about = json.loads(manifest.read_text())
            manifest.write_text(json.dumps({**about, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}))

    KINDS = ("one bit", "cut short", "empty", "no weights", "no manifest", "torn manifest", "brackets", "not tensors")

    @pytest.mark.parametrize("how", KINDS)
    def test_missing_or_damaged_weights_leave_the_inflation(self, how, tmp_path):
        folder = write_weights(tmp_path / "weights", wild_network(0.3))
        whole = model_in(folder)
        assert whole.note is None
        self.damage(folder, how)
        model = model_in(folder)
        assert "without learned depth" in model.note
        assert model.revision.startswith("inflation-")
        assert model.revision != whole.revision
        bare = model_in(tmp_path / "nothing")
        rgba = cut_out(drawn(mug))
        assert made(model, rgba).to_bytes() == made(bare, rgba).to_bytes() != made(whole, rgba).to_bytes()

    @pytest.mark.parametrize(
        "config",
        [
            {"widths": [8, 8, 8, 8]},
            {"widths": []},
            {"size": 50},
            {"size": "large"},
            {"unheard_of": 1},
            [],
            None,
        ],
        ids=str,
    )
    def test_weights_of_another_network_leave_the_inflation(self, tmp_path, config):
        whole = {name: getattr(SMALL, name) for name in NetworkConfig.__slots__}
        changed = {**whole, **config} if isinstance(config, dict) else config
        folder = write_weights(tmp_path / "weights", wild_network(0.3), config=changed)
        assert "does not fit" in model_in(folder).note

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 60_000.0])
    @pytest.mark.parametrize("name", ["local.bias", "whole.3.bias"])
    def test_weights_of_no_use_leave_the_inflation(self, tmp_path, name, value):
        network = wild_network(0.3)
        with torch.no_grad():
            network.get_parameter(name).fill_(value)
        assert "does not fit" in model_in(write_weights(tmp_path / "weights", network)).note

    def test_the_revision_follows_the_weights(self, tmp_path):
        one, two = (write_weights(tmp_path / str(s), wild_network(s)) for s in (0.1, 0.2))
        assert model_in(one).revision != model_in(two).revision
        shutil.copytree(one, tmp_path / "copy")
        assert model_in(tmp_path / "copy").revision == model_in(one).revision

    def test_models_info_and_the_job_say_so(self, tmp_path, monkeypatch):
        monkeypatch.setattr(BuiltinModel, "_folder", tmp_path / "nothing")
        server = main.OrfeasUnifiedServer(load_settings({"DATA_DIR": str(tmp_path / "data")}))
        server.load_model()
        client = server.app.test_client()
        try:
            row = next(row for row in client.get("/api/models-info").json["models"] if row["id"] == "builtin")
            assert row["available"] is True
            assert "without learned depth" in row["note"]
            Image.fromarray(cut_out(drawn(disc, 64))).save(tmp_path / "disc.png")
            with (tmp_path / "disc.png").open("rb") as picture:
                job = client.post("/api/generate-3d", data={"image": (picture, "disc.png"), "quality": "1"}).json
            while job["status"] not in ("completed", "failed"):
                job = client.get(f"/api/job-status/{job['job_id']}?wait=10").json
            assert job["status"] == "completed", job["error"]
            assert "without learned depth" in job["model_note"]
        finally:
            server.close()
