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

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.builtin.network import DepthNetwork, NetworkConfig

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


@dataclass(frozen=True, slots=True)
class Read:
    """What the files hold: the sizes of the network, its tensors in float32, the SHA-256 of the file of these."""

    config: NetworkConfig
    tensors: dict[str, NDArray[np.float32]]
    sha256: str


def load(folder: Path = FOLDER) -> Weights:
    """Read, check and assemble; WeightsError when anything is missing or not as the manifest says."""
    found = read(folder)
    try:
        from models.builtin.network import DepthNetwork

        network = DepthNetwork(found.config, found.tensors)
        if not _sane(network):
            raise ValueError("not finite")
    except Exception as error:  # whatever a manifest may hold: the server has to start
        raise _unfit(error) from error
    return Weights(network, found.sha256)


def read(folder: Path = FOLDER) -> Read:
    """The files' content, checked against each other but not against the network; WeightsError as in `load`."""
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
        import safetensors.numpy

        from models.builtin.network import NetworkConfig
    except ImportError as error:
        raise WeightsError(f"{error.name} is not installed") from error
    try:
        sizes: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
        return Read(NetworkConfig(**sizes), unpacked(safetensors.numpy.load(data)), sha256)
    except Exception as error:
        raise _unfit(error) from error


def _unfit(error: Exception) -> WeightsError:
    return WeightsError(f"{WEIGHTS} does not fit the network of this version: {type(error).__name__}")


def unpacked(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """In float32, without the scales; ValueError when one is missing or is none."""
    found: dict[str, NDArray[np.float32]] = {}
    left = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype == np.int8:
            scale = left.pop(name + SCALE, None)
            if scale is None or not _scales(scale, tensor):
                raise ValueError(f"no scale for {name}")
            found[name] = left.pop(name) * scale.reshape(-1, *[1] * (tensor.ndim - 1))
    for name, tensor in left.items():
        if not np.issubdtype(tensor.dtype, np.floating):
            raise ValueError(f"{name} is {tensor.dtype}")
        found[name] = tensor.astype(np.float32)
    return found


def _scales(scale: NDArray[Any], tensor: NDArray[Any]) -> bool:
    """Whether it is a positive float32 for each output channel of the tensor."""
    fits = scale.dtype == np.float32 and tensor.ndim > 0 and scale.shape == tensor.shape[:1]
    return fits and bool((np.isfinite(scale) & (scale > 0)).all())


def _sane(network: DepthNetwork) -> bool:
    """Whether what it says of a grey disc are depths that a disc may have, and a doubt that is a number."""
    axis = np.linspace(-1, 1, network.config.size, dtype=np.float32)
    height = np.sqrt((np.float32(0.7) - axis**2 - axis[:, None] ** 2).clip(min=0))[None]
    mask = (height > 0).astype(np.float32)
    with np.errstate(all="ignore"):
        found = network(np.repeat(mask[..., None] / 2, 3, -1), mask, height)
        inside = [np.abs(layer[mask > 0]) for layer in (found.front, found.back)]
        return bool(all((depth < _DEEPEST).all() for depth in inside) and np.isfinite(found.doubt).all())
