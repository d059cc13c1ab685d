"""Measure the shapes of a model on pictures whose true shape is known.

    python benchmarks/shape_quality.py --eval DIR [--meshes FOLDER] [--model builtin] [--quality 7]
    python benchmarks/shape_quality.py --paired 320 [--extra-meshes DIR --sources 0 8] [--quality 4]

DIR holds `pictures/NAME.png`, `truth/NAME.npz` and a `score.py` with `score(trimesh, truth) -> dict`, whose numbers are
printed: higher `cam_f` and lower `cam_cd` are better. Each picture goes the way of a request, through the project's own
code: decode, foreground, model, finish. `ms` is the time from the file's bytes to a textured GLB in memory, `check` is
the shape as the model returned it: closed, wound alike, and its Euler characteristic (2 for each part, −2 for each
hole through it).

`--paired` needs no pictures: it renders shapes that training never saw and compares the built-in model with and without
its network on each (`shape_pairs.py`).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "backend"))

import topology

from mesh.finish import finish
from mesh.formats import Dimensions
from mesh.writers import export
from models import registry
from models.base import Mesh, Model, ShapeOptions
from picture.cutout import foreground
from picture.decode import decode

COLUMNS = ("cam_cd", "cam_f0.1", "cam_f0.05", "icp_f0.1")


def main() -> None:
    """Print a row for each picture and their mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--eval", type=Path, metavar="DIR")
    what.add_argument("--paired", type=int, metavar="N", help="on how many made-up shapes")
    parser.add_argument("--extra-meshes", type=Path, metavar="DIR", help="with --paired: real meshes as well")
    parser.add_argument("--sources", type=int, nargs="*", default=[0, 8], help="of them, those held out of training")
    parser.add_argument("--meshes", type=Path, metavar="FOLDER", help="write the finished meshes there as GLB")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--model-path", type=Path)
    parser.add_argument("--quality", type=int, default=7)
    options = parser.parse_args()
    if options.paired is not None:
        if options.paired < 1:
            parser.error("--paired needs at least one shape")
        import shape_pairs

        shape_pairs.run(options.paired, options.quality, options.extra_meshes, options.sources)
        return

    scorer = _module(options.eval / "score.py")
    model = registry.create(options.model, options.model_path, "auto")
    model.load()
    print(f"{options.model} {model.revision}, quality {options.quality}")
    print(f"{'picture':26}", *(f"{name:>9}" for name in COLUMNS), f"{'vertices':>9} {'faces':>8} {'ms':>6}  check")
    rows = []
    for file in sorted((options.eval / "pictures").glob("*.png")):
        data = file.read_bytes()
        mesh, glb, seconds = _generated(model, data, options.quality)
        if options.meshes:
            options.mkdir(parents=True, exist_ok=True)
            (options.meshes / f"{file.stem}.glb").write_bytes(glb)
        scores = scorer.score(_solid(mesh), np.load(options.eval / "truth" / f"{file.stem}.npz"))
        rows.append([*(scores[name] for name in COLUMNS), len(mesh.vertices), len(mesh.faces), 1000 * seconds])
        print(_row(file.stem, rows[-1]), "", _check(mesh))
    if not rows:
        sys.exit(f"no pictures in {options.eval / 'pictures'}")
    print(_row(f"MEAN of {len(rows)}", np.mean(rows, axis=0)))
    print(f"peak memory of this process {_peak_memory():.0f} MB")
    if options.model == "builtin":
        print(f"the network alone {_network_ms():.0f} ms")


def _peak_memory() -> float:
    """In MB (10^6 bytes); NaN where the system does not say."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _network_ms() -> float:
    """CPU time of one picture through the built-in model's network, the median of 20."""
    from models.builtin import depth, weights

    loaded = weights.load()
    plane = np.full((loaded.network.config.size,) * 2, 0.5)
    times = []
    for _ in range(20):
        start = time.process_time()
        depth._predicted(loaded, np.dstack([plane] * 3), plane, plane)
        times.append(time.process_time() - start)
    return 1000 * float(np.median(times))


def _row(name: str, values: list[float]) -> str:
    *scores, vertices, faces, milliseconds = values
    numbers = " ".join(f"{score:9.3f}" for score in scores)
    return f"{name:26} {numbers} {vertices:9.0f} {faces:8.0f} {milliseconds:6.0f}"


def _module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None or not file.exists():
        sys.exit(f"there is no {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _generated(model: Model, data: bytes, quality: int) -> tuple[Mesh, bytes, float]:
    """The mesh as the model made it, the file, and the CPU seconds for both: other work on the machine counts less."""
    start = time.process_time()
    cut_out = foreground(decode(data, 10**9).rgba)
    mesh = model.generate(cut_out, ShapeOptions(quality=quality), lambda fraction, stage: None, lambda: False)
    finished = finish(mesh, dimensions=Dimensions(), fit="contain", target_faces=None)
    glb = export(finished, "glb")
    return mesh, glb, time.process_time() - start


def _solid(mesh: Mesh) -> Any:
    """With the vertices welded that the texture repeats."""
    import trimesh

    first, place = topology.weld(mesh.vertices)
    return trimesh.Trimesh(mesh.vertices[first], place[mesh.faces], process=False)


def _check(mesh: Mesh) -> str:
    solid = _solid(mesh)
    closed = "closed" if solid.is_watertight else "OPEN"
    return f"{closed}{'' if solid.is_winding_consistent else ', BADLY WOUND'}, euler {solid.euler_number}"


if __name__ == "__main__":
    main()
