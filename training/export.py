"""A checkpoint → the weights that ship: float16 safetensors, and beside them a manifest of what they are.

python training/export.py --run DIR [--to backend/models/builtin] [--made-on "two CPU cores"]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

import checkpoint
import render  # noqa: F401  (puts backend on the path)
from models.builtin.network import DepthNetwork
from models.builtin.weights import FOLDER, MANIFEST, WEIGHTS
from train import sizes


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, metavar="DIR")
    parser.add_argument("--to", type=Path, default=FOLDER, metavar="DIR")
    parser.add_argument("--made-on", default=platform.processor() or platform.machine())
    options = parser.parse_args()

    saved = checkpoint.load(options.run)
    settings = dict(saved["settings"])
    network = DepthNetwork(sizes(settings))
    settings.pop("config", None)
    network.load_state_dict(saved["average"])
    tensors = {name: tensor.to(torch.float16).contiguous() for name, tensor in network.state_dict().items()}
    data = safetensors.torch.save(tensors)
    before = settings.pop("before", None)  # of the weights that it began from
    manifest = {
        "file": WEIGHTS,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "dtype": "float16",
        "licence": "MIT, as the rest of the project",
        "config": asdict(network.config),
        "training": {**saved["state"], "made_on": options.made_on, "before": before, "settings": settings},
        "validation": scores(options.run, saved["state"]),
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    replace(options.to, {WEIGHTS: data, MANIFEST: text.encode()})
    print(f"{options.to / WEIGHTS}: {len(data) / 1e6:.2f} MB, SHA-256 {manifest['sha256']}")


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
