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

import safetensors.torch
import torch

import render  # noqa: F401  (puts backend on the path)
from models.builtin.network import DepthNetwork, NetworkConfig
from models.builtin.weights import FOLDER, MANIFEST, WEIGHTS


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, metavar="DIR")
    parser.add_argument("--to", type=Path, default=FOLDER, metavar="DIR")
    parser.add_argument("--made-on", default=platform.processor() or platform.machine())
    options = parser.parse_args()

    saved = torch.load(options.run / "checkpoint.pt", map_location="cpu", weights_only=True)
    network = DepthNetwork(NetworkConfig(size=saved["settings"]["size"]))
    network.load_state_dict(saved["average"])
    tensors = {name: tensor.to(torch.float16).contiguous() for name, tensor in network.state_dict().items()}
    data = safetensors.torch.save(tensors)
    options.to.mkdir(parents=True, exist_ok=True)
    (options.to / WEIGHTS).write_bytes(data)
    report = options.run / "report" / "scores.json"
    scores = json.loads(report.read_text()) if report.exists() else {}
    settings = dict(saved["settings"])
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
        "validation": {name: value for name, value in scores.items() if name not in saved["state"]},
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
    }
    (options.to / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{options.to / WEIGHTS}: {len(data) / 1e6:.2f} MB, SHA-256 {manifest['sha256']}")


if __name__ == "__main__":
    main()
