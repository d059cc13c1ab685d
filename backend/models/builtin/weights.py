"""The network's weights: a file of tensors, and a manifest that says what they are and how they were made.

What is large is kept as int8 with a float32 scale for each output channel, the rest as float16 (`training/export.py`
writes it). Files that are float16 throughout load, too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from models.builtin.network import DepthNetwork

FOLDER = Path(__file__).parent
WEIGHTS, MANIFEST = "depth.safetensors", "depth.json"
SCALE = ".scale"
"""Ends the name of what the whole numbers of a tensor are multiplied by: a number for each output channel."""

_DEEPEST = 10.0
"""In units of half the window's side: what no network that has learned anything says of a small picture."""


class WeightsError(RuntimeError):
    """There is no network to be had; the text tells a user why."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A network that is ready to run, and the SHA-256 of the file that it came from."""

    network: DepthNetwork
    sha256: str


def load(folder: Path = FOLDER) -> Weights:
    """Read, check and assemble; WeightsError when anything is missing or not as the manifest says."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        data = (folder / WEIGHTS).read_bytes()
        config, expected = manifest["config"], manifest["sha256"]
    except FileNotFoundError as error:
        raise WeightsError(f"{Path(error.filename).name} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"the weights or {MANIFEST} cannot be read: {type(error).__name__}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != expected:
        raise WeightsError(f"{WEIGHTS} is damaged: its SHA-256 is not the one in {MANIFEST}")
    try:
        import safetensors.torch

        from models.builtin.network import DepthNetwork, NetworkConfig
    except ImportError as error:
        raise WeightsError(f"{error.name} is not installed") from error
    try:
        sizes: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
        network = DepthNetwork(NetworkConfig(**sizes))
        network.load_state_dict(unpacked(safetensors.torch.load(data)))
        network = network.eval().requires_grad_(False)
        if not _sane(network):
            raise ValueError("not finite")
    except Exception as error:  # whatever a manifest may hold: the server has to start
        raise WeightsError(f"{WEIGHTS} does not fit the network of this version: {type(error).__name__}") from error
    return Weights(network, sha256)


def unpacked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """In float32, without the scales; ValueError when one is missing or is none."""
    import torch

    found: dict[str, Tensor] = {}
    left = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = left.pop(name + SCALE, None)
            if scale is None or not _scales(scale, tensor):
                raise ValueError(f"no scale for {name}")
            found[name] = left.pop(name) * scale.reshape(-1, *[1] * (tensor.dim() - 1))
    for name, tensor in left.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}")
        found[name] = tensor.to(torch.float32)
    return found


def _scales(scale: Tensor, tensor: Tensor) -> bool:
    """Whether it is a positive float32 for each output channel of the tensor."""
    import torch

    fits = scale.dtype == torch.float32 and scale.shape == tensor.shape[:1]
    return fits and bool((scale.isfinite() & (scale > 0)).all())


def _sane(network: DepthNetwork) -> bool:
    """Whether what it says of a grey disc are depths that a disc may have, and a doubt that is a number."""
    import torch

    axis = torch.linspace(-1, 1, network.config.size)
    height = (0.7 - axis**2 - axis[:, None] ** 2).clamp(min=0).sqrt()[None]
    mask = (height > 0).float()
    found = network(mask.expand(3, -1, -1)[None] / 2, mask, height)
    inside = [layer[mask > 0].abs() for layer in (found.front, found.back)]
    return bool(all((depth < _DEEPEST).all() for depth in inside) and found.doubt.isfinite().all())
