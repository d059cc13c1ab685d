#!/usr/bin/env python3
"""What a shape costs, from the picture to the file, in milliseconds of one CPU: medians, each step by itself.

    python benchmarks/mesh_speed.py [PICTURE] [--quality 7] [--rounds 15] [--other DIR]

PICTURE is a cut-out, else one is drawn. With `--other DIR` the same of another checkout, in turns, and the ratio: both
finish the mesh that this one's built-in model makes, and each times its own model, whose network counts by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from round_trip import drawn
from side_by_side import table

OURS = Path(__file__).resolve().parents[1]
FORMATS = ("stl", "glb", "ply", "obj", "3mf")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?", type=Path)
    parser.add_argument("--quality", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--other", type=Path, metavar="DIR")
    options = parser.parse_args()
    checkouts = [OURS, *([options.other.resolve()] if options.other else [])]
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "picture.png")
        picture.write_bytes(options.picture.read_bytes() if options.picture else drawn(0))
        arguments = [str(picture), str(Path(folder, "mesh.npz")), str(options.quality)]
        workers = [started(checkout, arguments) for checkout in checkouts]
        rounds = [[asked(worker) for worker in workers] for _ in range(options.rounds)]
        for worker in workers:
            worker.communicate()
    medians = [{step: statistics.median(turn[at][step] for turn in rounds) for step in rounds[0][at]} for at in (0, -1)]
    print(f"{medians[0].pop('faces'):,.0f} faces\n")
    if not options.other:
        print(table(("step", "ms"), [(step, f"{spent:.0f}") for step, spent in medians[0].items()]))
        return
    rows = [
        (step, *(f"{of[step]:.0f}" for of in medians), f"{ours / medians[1][step]:.2f}")
        for step, ours in medians[0].items()
    ]
    print(table(("step", "ms", "other", "ratio"), rows))


def started(checkout: Path, arguments: list[str]) -> subprocess.Popen[str]:
    """A process that knows the checkout's modules and has warmed up."""
    settings = {
        "PYTHONPATH": f"{checkout / 'backend'}:{Path(__file__).parent}",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    code = "import sys, mesh_speed; mesh_speed.work(*sys.argv[1:])"
    worker = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    asked(worker)
    return worker


def asked(worker: subprocess.Popen[str]) -> dict[str, float]:
    """What one round took."""
    assert worker.stdin
    assert worker.stdout
    print(file=worker.stdin, flush=True)
    return dict(json.loads(worker.stdout.readline()))


def work(picture: str, shape: str, quality: str) -> None:
    """A round for each line that comes in. The first worker writes the shape that all of them finish."""
    import numpy as np
    from PIL import Image

    from models.base import Mesh, ShapeOptions
    from models.builtin.model import BuiltinModel

    try:
        from mesh.finish import finish
        from mesh.formats import Dimensions
        from mesh.report import measure
        from mesh.writers import export
    except ModuleNotFoundError:  # as it was up to commit 8cb5dcc
        from meshes import Dimensions, export, finish, measure

    model, network = BuiltinModel(), [0.0, 0.0]
    model.load()
    if model._weights is not None:
        model._weights.network.register_forward_pre_hook(lambda *_: network.__setitem__(0, time.process_time()))
        model._weights.network.register_forward_hook(lambda *_: network.__setitem__(1, time.process_time()))
    rgba = np.asarray(Image.open(picture).convert("RGBA"))

    def timed(name: str, step, *arguments, **options):
        start = time.process_time()
        result = step(*arguments, **options)
        spent[name] = (time.process_time() - start) * 1e3
        return result

    for _ in sys.stdin:
        spent: dict[str, float] = {}
        mesh = timed("model", model.generate, rgba, ShapeOptions(int(quality)), lambda *_: None, lambda: False)
        spent["its network"] = (network[1] - network[0]) * 1e3
        if not Path(shape).exists():
            Path(shape).write_bytes(mesh.to_bytes())
        mesh = Mesh.from_bytes(Path(shape).read_bytes())
        finished = timed("finish", finish, mesh, dimensions=Dimensions(50), fit="contain", target_faces=None)
        timed("measure", measure, finished)
        for name in FORMATS:
            timed(name, export, finished, name)
        known = spent["finish"] + spent["measure"]
        spent |= {f"another file: {name}": known + spent[name] for name in FORMATS}
        spent["picture to stl"] = spent["model"] + spent["another file: stl"]
        spent["without the network"] = spent["picture to stl"] - spent["its network"]
        print(json.dumps(spent | {"faces": len(mesh.faces)}), flush=True)


if __name__ == "__main__":
    main()
