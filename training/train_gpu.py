r"""Train the built-in model's depth network on a GPU that also renders, so that no view is used twice.

    python training/train_gpu.py --run DIR --minutes 21 --start backend/models/builtin --compile \
        --extra-meshes MESHES --scans SCANS

Processes make shapes without end; the GPU keeps the last of them, and for each step deforms, poses, renders and lights
as many views as the step needs. `checkpoint.pt`, `log.jsonl` and `report/scores.json` are in DIR; the same command
again goes on from the checkpoint. Needs CUDA and CuPy. `export.py` then turns that into the weights that ship.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Generator, Tensor

import checkpoint
import corpus
import families
import patterns
import poses
import raster
import stream
from lighting import Batch, lit
from losses import apart, errors, inflated_errors, loss
from models.builtin.network import NetworkConfig
from models.builtin.sheets import CAMERA
from network import DepthNetwork, Depths, from_files
from train import before, note, rate, seeds, sizes, text

_AVERAGED = 4
"""Steps between two updates of the averaged weights, which are the ones that ship."""
_SPARE = 1.06
"""Views made for each one needed: some cannot be used."""
_WARM = 400
"""Steps over which the learning rate rises."""
_MANY = 800
"""Scans from which on they get their whole share of the views; fewer get less, in proportion."""
_AT_ONCE = 4
"""Batches made in one go: many of the launches are small."""
_SELDOM = 4
"""Of these, how many before the GPU waits for new shapes to be copied to it."""
_PRINTS = 1024
_SEED = 987_654_321


def options() -> argparse.Namespace:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, metavar="DIR")
    parser.add_argument("--start", type=Path, metavar="DIR", help="weights to begin from; layers they lack are new")
    parser.add_argument("--minutes", type=float, default=10, help="how long this call takes")
    parser.add_argument("--total-minutes", type=float, help="over all calls, for the learning rate")
    parser.add_argument("--extra-meshes", type=Path, metavar="DIR", help="low-poly meshes, which are varied")
    parser.add_argument("--extra-share", type=float, default=0.45, help="of the shapes that the processes make")
    parser.add_argument("--hold-out", type=int, nargs="*", default=[0, 8], help="of their sources")
    parser.add_argument("--scans", type=Path, metavar="DIR", help="real meshes that stay in the GPU's memory")
    parser.add_argument("--scans-share", type=float, default=0.4, help="of the views")
    parser.add_argument("--scans-hold-out", type=int, nargs="*", default=[], help="of their sources")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=15, help="processes that make shapes")
    parser.add_argument("--shelf", type=int, default=1200, help=f"files of {stream.PART} shapes that the GPU keeps")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--flat", type=float, default=0.06, help="how many of the views are drawings")
    parser.add_argument("--size", type=int, default=NetworkConfig().size)
    parser.add_argument("--trunk", type=int, default=8, help="transformer blocks of a new run")
    parser.add_argument("--trunk-width", type=int, default=NetworkConfig().trunk_width)
    parser.add_argument("--rate", type=float, default=6e-4, help="the highest learning rate")
    parser.add_argument("--apart", type=float, default=0.15, help="first weight of the points' distances; it trebles")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--check-minutes", type=float, default=4)
    parser.add_argument("--checks", type=int, default=256, help="views in each validation set")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Studio:
    """Where views are made."""

    rasteriser: raster.Rasteriser
    shelf: raster.Shelf
    """Of shapes that come and go."""
    scans: raster.Shelf
    drawings: stream.Drawings
    sheets: Tensor
    random: Generator

    def batches(self, count: int, size: int, scans_share: float, flat_share: float) -> list[Batch]:
        """`count` batches of `size` fresh views, lit."""
        views = self._views(count * size, scans_share, flat_share)
        order = torch.randperm(count * size, generator=self.random, device=self.random.device)
        batch = lit({name: field[order] for name, field in views.items()}, self.random)
        parts = (np.s_[start : start + size] for start in range(0, count * size, size))
        return [Batch(*(field[part] for field in batch.fields())) for part in parts]

    def _views(self, count: int, scans_share: float, flat_share: float) -> dict[str, Tensor]:
        flat = round(count * flat_share)
        made = min(int((count - flat) * _SPARE) + 8, self.rasteriser.count)
        table = torch.cat([self.shelf.table, self.scans.table])
        creases = torch.cat([self.shelf.creases, self.scans.creases])
        which = self._any(len(self.shelf), made)
        if len(self.scans):
            real = torch.rand(made, generator=self.random, device=which.device) < scans_share
            which = torch.where(real, len(self.shelf) + self._any(len(self.scans), made), which)
        posed = poses.drawn(self.random, creases[which], len(self.sheets))
        found = self.rasteriser.views(table, which, posed.parameters, self.sheets)
        best = found.usable.float().sort(descending=True, stable=True).indices[: count - flat]
        views = {name: field[best] for name, field in found.views.items()} | {"up": posed.up[best]}
        if flat:
            drawn = self._flat(flat)
            views = {name: torch.cat([field, drawn[name]]) for name, field in views.items()}
        return views

    def _any(self, count: int, views: int) -> Tensor:
        return torch.randint(max(count, 1), (views,), generator=self.random, device=self.random.device)

    def _flat(self, count: int) -> dict[str, Tensor]:
        chosen = self._any(len(self.drawings), count)
        mask, albedo = self.drawings.masks[chosen].float(), self.drawings.colours[chosen].float()
        height = self.rasteriser.inflated(mask / 255)
        front = torch.where((mask > 127) & (height > 0), height, torch.nan)
        normal, up = torch.zeros_like(albedo), mask.new_zeros((count, 3))
        normal[..., 2] = 127
        views = {"front": front, "back": -front, "height": height, "mask": mask, "normal": normal, "albedo": albedo}
        return {**views, "flat": mask.new_ones(count), "up": up}


class Checks:
    """Views of shapes that training never sees, rendered once, and how good the network is on them."""

    def __init__(self, sets: dict[str, raster.Packed], studio: Studio, count: int) -> None:
        self.sets = dict[str, Batch]()
        for name, shapes in sets.items():
            random = torch.Generator(studio.random.device).manual_seed(_SEED)
            shelf = raster.Shelf(str(studio.random.device), 1)
            shelf.add(shapes)
            which = torch.arange(count, device=random.device) % len(shelf)
            posed = poses.drawn(random, shelf.creases[which], len(studio.sheets))
            at = raster.places()
            for part, value in {"scale": 1, "taper": 0, "twist": 0, "bend": 0, "waves": 0, "camera": CAMERA}.items():
                posed.parameters[:, at[part]] = value
            found = studio.rasteriser.views(shelf.table, which, posed.parameters, studio.sheets)
            good = found.usable.nonzero()[:, 0]
            views = {field: values[good] for field, values in found.views.items()} | {"up": posed.up[good]}
            self.sets[name] = lit(views, random)

    @torch.no_grad()
    def scores(self, network: DepthNetwork) -> dict[str, float]:
        """Per set: `err` the mean depth error over the inflation's, `f` and `f5` the F-scores at 0.1 and 0.05 of the
        layers' points, `up` by how many degrees the upright is missed at the median."""
        network.eval()
        found = dict[str, float]()
        for name, batch in self.sets.items():
            parts = list[Tensor]()
            for start in range(0, len(batch.mask), 64):
                piece = Batch(*(field[start : start + 64] for field in batch.fields()))
                one = network(piece.picture, piece.mask, piece.height)
                two = network(piece.picture.flip(-1), piece.mask.flip(-1), piece.height.flip(-1))
                front, back = (one.front + two.front.flip(-1)) / 2, (one.back + two.back.flip(-1)) / 2
                near, nearer = f_scores(front, back, piece)
                angle = torch.zeros_like(near)
                if one.up is not None:
                    angle = torch.rad2deg((one.up * piece.up).sum(1).clamp(-1, 1).acos())
                parts.append(torch.stack([errors(front, back, piece), inflated_errors(piece), near, nearer, angle]))
            mine, theirs, near, nearer, angle = torch.cat(parts, 1)
            found |= {f"{name}_err": float(mine.mean() / theirs.mean()), f"{name}_f": float(near.mean())}
            found |= {f"{name}_f5": float(nearer.mean()), f"{name}_up": float(angle.median())}
        network.train()
        return found


def f_scores(front: Tensor, back: Tensor, goal: Batch, points: int = 900) -> tuple[Tensor, Tensor]:
    """(B,) the F-scores at 0.1 and at 0.05 of the points of two layers, both boxes centred, their longest side 2."""
    size = goal.mask.shape[-1]
    axis = (torch.arange(size, device=front.device) + 0.5) * (2 / size) - 1
    chosen = (goal.valid.flatten(1) + torch.rand_like(goal.valid).flatten(1)).topk(points, 1).indices
    there = goal.valid.flatten(1).gather(1, chosen).repeat(1, 2) > 0

    def cloud(layers: tuple[Tensor, Tensor]) -> Tensor:
        z = torch.stack(layers, 1)
        near = (CAMERA - z) / CAMERA
        placed = torch.stack([axis * near, -axis[:, None] * near, z], -1).flatten(2, 3)  # (B,2,SS,3)
        inside = goal.valid.flatten(1)[:, None, :, None] > 0
        low, high = torch.where(inside, placed, 9.0).amin((1, 2)), torch.where(inside, placed, -9.0).amax((1, 2))
        picked = placed.gather(2, chosen[:, None, :, None].expand(-1, 2, -1, 3)).flatten(1, 2)
        return (picked - (low + high)[:, None] / 2) * (2 / (high - low).amax(1))[:, None, None]

    far = torch.cdist(cloud((front, back)), cloud((goal.front, goal.back)))
    far = torch.where(there[:, :, None] & there[:, None], far, 99.0)
    found = []
    for reach in (0.1, 0.05):
        shares = [((far.amin(axis) < reach) & there).sum(1) / there.sum(1).clamp(min=1) for axis in (1, 2)]
        found.append(2 * shares[0] * shares[1] / (shares[0] + shares[1]).clamp(min=1e-6))
    return found[0], found[1]


def main() -> None:
    """Train for a while."""
    started = time.monotonic()
    args = options()
    device = "cuda"
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    args.run.mkdir(parents=True, exist_ok=True)
    log = (args.run / "log.jsonl").open("a")
    meshes, held_out = corpus.split(args.extra_meshes, args.hold_out)

    saved = checkpoint.load(args.run, device) if (args.run / checkpoint.NAME).exists() else None
    seed = seeds(args.seed, log, saved["state"]["step"] if saved else 0)
    folder = args.run / "shapes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number in range(args.workers):
        job = (folder, number, seed, meshes, args.extra_share, args.size)
        multiprocessing.Process(target=stream.work, args=job, daemon=True).start()
    carrier = stream.Carrier(folder)

    network, average, optimizer, state, origin, config = beginning(args, saved, device)
    settings = {name: value.name if isinstance(value, Path) else value for name, value in vars(args).items()}
    settings |= {"before": origin, "config": asdict(config)}
    random = np.random.default_rng([*seed, 10_000])
    sheets = torch.from_numpy(np.stack([patterns.sheet(random) for _ in range(_PRINTS)])).to(device)
    scans = stream.Scans(args.scans, args.scans_hold_out, device)
    studio = Studio(
        raster.Rasteriser(int(_AT_ONCE * args.batch * _SPARE) + 8, args.size, device),
        raster.Shelf(device, args.shelf),
        scans.shelf,
        stream.Drawings(16384, args.size, device),
        sheets,
        torch.Generator(device).manual_seed(int(random.integers(2**60))),
    )
    checks = Checks(sets(held_out, scans.held_out, args.checks), studio, args.checks)
    while carrier.files < 60:
        if not carrier.give(studio.shelf, studio.drawings, 8):
            time.sleep(0.05)
    print(f"{time.monotonic() - started:.0f} s: {len(studio.shelf)} shapes, {len(studio.scans)} scans", flush=True)

    def objective(batch: tuple[Tensor, ...], offset: Tensor, weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        goal = Batch(*batch)
        with torch.autocast(device, torch.bfloat16):
            found = network(goal.picture, goal.mask, goal.height)
        found = Depths(found.front.float(), found.back.float(), found.doubt.float(), found.up)
        value, parts = loss(found, goal)
        if args.apart:
            points = apart(found, goal, offset)
            value, parts = value + weight * points, parts | {"apart": points.detach()}
        return value, parts

    stepped = torch.compile(objective, dynamic=False) if args.compile else objective
    slow, fast = ([p.data for p in each.parameters()] for each in (average, network))
    began, sums, weight = state["minutes"], dict[str, Tensor](), torch.zeros((), device=device)
    total = args.total_minutes or began + args.minutes
    next_check = began + min(1.5, args.check_minutes)
    last, waiting = (time.monotonic(), state["step"]), list[Batch]()

    def keep() -> None:
        state["minutes"] = began + (time.monotonic() - started) / 60
        checkpoint.save(args.run, network, average, optimizer, state, settings)
        scores = checks.scores(average)
        note(log, {**state, "files": carrier.files, "scores": scores})
        (args.run / "report").mkdir(exist_ok=True)
        (args.run / "report" / "scores.json").write_text(json.dumps({**state, **scores}, indent=1))
        print(f"{state['minutes']:.1f} min, step {state['step']} {text(scores)}", flush=True)

    while True:
        now = began + (time.monotonic() - started) / 60
        if now >= min(began + args.minutes, total):
            break
        if now >= next_check:
            next_check = now + args.check_minutes
            keep()
        if not waiting:
            if state["step"] % (_AT_ONCE * _SELDOM) == 0:
                carrier.give(studio.shelf, studio.drawings, 4)
                scans.follow()
            share = args.scans_share * min(1, len(scans.shelf) / _MANY)
            waiting = studio.batches(_AT_ONCE, args.batch, share, args.flat)
        batch = waiting.pop()
        offset = torch.randint(4, (2,), generator=studio.random, device=device)
        weight.fill_(args.apart * (1 + 2 * now / total))
        value, parts = stepped(batch.fields(), offset, weight)
        for group in optimizer.param_groups:
            group["lr"] = rate(args.rate, now / total) * min(1, (state["step"] + 1) / _WARM)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        state["step"] += 1
        state["views"] += args.batch
        if state["step"] % _AVERAGED == 0:
            share = min(0.999, state["step"] / (state["step"] + 10)) ** _AVERAGED
            torch._foreach_lerp_(slow, fast, 1 - share)
        for name, part in parts.items():
            sums[name] = 0.98 * sums.get(name, part) + 0.02 * part
        if state["step"] % 50 == 1:
            means = {name: float(part) for name, part in sums.items()}
            if not all(np.isfinite(list(means.values()))):
                print("the loss is not finite: back to the average", flush=True)
                network.load_state_dict(average.state_dict())
                optimizer.state.clear()
                sums.clear()
                continue
            speed = (state["step"] - last[1]) / max(time.monotonic() - last[0], 1e-6)
            last = time.monotonic(), state["step"]
            used = optimizer.param_groups[0]["lr"]
            note(log, {**state, "minutes": now, "rate": used, "files": carrier.files, "speed": speed, **means})
            if state["step"] % 250 == 1:
                there = f"{carrier.files} files, {len(scans.shelf)} scans"
                print(f"{now:.1f} min, step {state['step']}, {speed:.1f}/s, {there}, {text(means)}", flush=True)
    keep()


def sets(held_out: list[Any], scans: list[Any], count: int) -> dict[str, raster.Packed]:
    """What to measure on: made-up shapes of unseen seeds, unseen families, unseen meshes."""
    random = np.random.default_rng(_SEED)
    found = {
        "made": raster.packed([(families.make_shape(random), 0.7) for _ in range(count)]),
        "families": raster.packed(
            [(families.make_shape(random, str(random.choice(families.HELD_OUT))), 0.7) for _ in range(count)]
        ),
    }
    for name, meshes in (("meshes", held_out), ("scans", scans)):
        if meshes:
            order = random.permutation(len(meshes))[:count]
            found[name] = raster.packed([(meshes[i], 0.7) for i in order], weld=True)
    return found


def beginning(
    args: argparse.Namespace, saved: dict[str, Any] | None, device: str
) -> tuple[DepthNetwork, DepthNetwork, torch.optim.Optimizer, dict[str, Any], dict[str, Any] | None, NetworkConfig]:
    """The network, its average, the optimizer, the counts so far, what `--start` was, and the sizes."""
    config = NetworkConfig(size=args.size, trunk=args.trunk, trunk_width=args.trunk_width)
    if saved:
        config = sizes(saved["settings"])

    def fresh() -> DepthNetwork:
        network: Any = DepthNetwork(config)
        return cast(DepthNetwork, network.to(device, memory_format=torch.channels_last))

    network, average = fresh(), fresh()
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    state: dict[str, Any] = {"step": 0, "minutes": 0.0, "views": 0}
    origin: dict[str, Any] | None = None
    if saved:
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        return network, average, optimizer, saved["state"], saved["settings"].get("before"), config
    if args.start:
        # Layers that those weights are too old for start as ones that do nothing.
        network.load_state_dict(from_files(args.start)[0].state_dict(), strict=False)
        origin = before(args.start)
    average.load_state_dict(network.state_dict())
    return network, average, optimizer, state, origin, config


if __name__ == "__main__":
    main()
