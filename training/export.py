"""A checkpoint → the weights that ship: safetensors, mostly int8, and beside them a manifest of what they are.

    python training/export.py --run DIR [--to backend/models/builtin] [--made-on "two CPU cores"]
    python training/export.py --from DIR [--to backend/models/builtin]

The second rounds weights that an earlier version exported in float16, and keeps what their manifest says.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

import checkpoint
import render  # noqa: F401  (puts backend on the path)
from models.builtin.weights import FOLDER, MANIFEST, SCALE, WEIGHTS, WeightsError
from network import DepthNetwork, from_files
from train import sizes

_LARGE = 4096
"""Numbers from which on a tensor of weights is rounded to int8: the last layers, which say the tilt and the upright,
have fewer, and cost nothing as they are."""


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, metavar="DIR", help="with the checkpoint")
    what.add_argument("--from", type=Path, metavar="DIR", dest="exported", help="with weights in float16")
    parser.add_argument("--to", type=Path, default=FOLDER, metavar="DIR")
    parser.add_argument("--made-on", default=platform.processor() or platform.machine())
    parser.add_argument("--credits", type=Path, metavar="FILE", help="one line for each source of meshes trained on")
    options = parser.parse_args()
    if options.credits and not options.credits.is_file():
        parser.error(f"there is no {options.credits}")
    network, about = trained(options.run, options.made_on) if options.run else exported(options.exported)
    if options.credits:
        about["credits"] = [line for line in options.credits.read_text(encoding="utf-8").splitlines() if line]
    tensors = packed(network.state_dict())
    data = safetensors.torch.save(tensors)
    manifest = {
        "file": WEIGHTS,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "parameters": sum(tensor.numel() for tensor in network.state_dict().values()),
        "dtype": "int8 with a float32 scale per output channel; small tensors float16",
        **about,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    replace(options.to, {WEIGHTS: data, MANIFEST: text.encode()})
    print(f"{options.to / WEIGHTS}: {len(data) / 1e6:.2f} MB, SHA-256 {manifest['sha256']}")


def trained(run: Path, made_on: str) -> tuple[DepthNetwork, dict[str, Any]]:
    """The averaged network of a run's checkpoint, and what there is to say of it."""
    saved = checkpoint.load(run)
    settings = dict(saved["settings"])
    network = DepthNetwork(sizes(settings))
    settings.pop("config", None)
    network.load_state_dict(saved["average"])
    before = settings.pop("before", None)  # of the weights that it began from
    return network, {
        "licence": "MIT, as the rest of the project",
        "config": asdict(network.config),
        "training": {**saved["state"], "made_on": made_on, "before": before, "settings": settings},
        "validation": scores(run, saved["state"]),
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
    }


def exported(folder: Path) -> tuple[DepthNetwork, dict[str, Any]]:
    """The network of weights in float16, and what their manifest says of it."""
    try:
        network, sha256 = from_files(folder)
    except WeightsError as error:
        raise SystemExit(f"--from: {error}") from error
    about: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if about.get("dtype") != "float16":
        raise SystemExit(f"--from: the weights in {folder} are not in float16, but {about.get('dtype')}")
    for name in ("file", "sha256", "bytes", "parameters", "dtype"):
        about.pop(name, None)
    return network, {**about, "rounded_from": sha256}


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As they are written: each large tensor of weights as int8, −127..127, and a float32 scale for each output
    channel; the rest, as biases, norms and the marks of places, in float16."""
    found = dict[str, Tensor]()
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise SystemExit(f"the weights are of no use: {name} is not finite")
        if tensor.dim() < 2 or len(tensor) < 2 or tensor.numel() < _LARGE:
            found[name] = tensor.to(torch.float16).contiguous()
            continue
        full = tensor.to(torch.float32)
        scale = (full.abs().flatten(1).amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        rounded = (full / scale.reshape(-1, *[1] * (full.dim() - 1))).round()
        found[name], found[name + SCALE] = rounded.to(torch.int8).contiguous(), scale
    return found


def scores(run: Path, state: dict[str, Any]) -> dict[str, float]:
    """Those of the report, if it was made at this step."""
    report = run / "report" / "scores.json"
    found = json.loads(report.read_text()) if report.exists() else {}
    if found.get("step") != state["step"]:
        return {}
    return {name: value for name, value in found.items() if name not in state}


def replace(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files so that none is there half, and the last, which vouches for the others, changes last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / f"{name}.part").write_bytes(data)
    for name in files:
        (folder / f"{name}.part").replace(folder / name)


if __name__ == "__main__":
    main()
