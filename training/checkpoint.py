"""All that a run needs to go on, in one file of about 178 MB."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

NAME = "checkpoint.pt"
"""In the folder of a run."""


def save(
    run: Path,
    network: torch.nn.Module,
    average: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    """Write it; what was there stays whole until the new one is."""
    adam = optimizer.state_dict()
    parts = {
        "network": _as(torch.float16, network.state_dict()),
        "average": _as(torch.float16, average.state_dict()),
        # Squared gradients are too small for float16. The count of steps stays exact.
        "optimizer": {**adam, "state": {i: _as(torch.bfloat16, moments) for i, moments in adam["state"].items()}},
    }
    file = run / NAME
    torch.save({**parts, "state": state, "settings": settings}, file.with_suffix(".part"))
    file.with_suffix(".part").replace(file)


def load(run: Path, device: str = "cpu") -> dict[str, Any]:
    """What was saved: `network`, `average`, `optimizer`, `state`, `settings`. Restoring a module or an optimizer from
    it gives float32 again, whatever it was saved as."""
    file = run / NAME
    if not file.exists():
        raise SystemExit(f"{file} is missing")
    try:
        saved: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
        missing = {"network", "average", "optimizer", "state", "settings"} - saved.keys()
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, AttributeError, UnpicklingError) as error:
        raise SystemExit(f"{file} cannot be read: {type(error).__name__}") from error
    if missing:
        raise SystemExit(f"{file} is not a checkpoint: {', '.join(sorted(missing))} missing")
    return saved


def _as(kind: torch.dtype, tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor if name == "step" else tensor.to(kind) for name, tensor in tensors.items()}
