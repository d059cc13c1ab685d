"""Every environment variable of the server: name, default, what is allowed. Read once, validated, frozen.

The table `VARIABLES` is the single source: `.env` and the README's table are checked against it by a test.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from cache.policies import POLICIES, PolicyName

ROOT = Path(__file__).resolve().parent.parent
"""The top of the repository: holds `.env`; relative folders start here, whatever the working directory."""

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


class SettingsError(ValueError):
    """A variable is out of range or of the wrong type; the text is one line for the terminal."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable."""

    name: str
    default: str
    allowed: str
    """What a value must be, in words, for the error line and the documentation."""
    parse: Callable[[str], Any]
    """Text to value; raises ValueError for what is not allowed."""


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(text)
        return int(text)

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not low <= float(text) <= high:  # also false for NaN
            raise ValueError(text)
        return float(text)

    return parse


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(text)
        return text.lower()

    return parse


def _flag(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _ttl(text: str) -> float | None:
    return _number(0, 10**10)(text or "0") or None


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", text.lower()):
        raise ValueError(text)
    return text.lower()


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", text):
        raise ValueError(text)
    return text


def _model_id(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", text.lower()):
        raise ValueError(text)
    return text.lower()


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"https?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?", origin):
            raise ValueError(origin)
    return tuple(origin.lower() for origin in origins)


def _folder(text: str) -> Path | None:
    return ROOT / Path(text).expanduser() if text else None


def _model_path(text: str) -> Path | Mapping[str, Path] | None:
    if not text.startswith("{"):
        return _folder(text)
    paths = json.loads(text)
    if not all(isinstance(path, str) and path for path in paths.values()):
        raise ValueError(text)
    return {_model_id(model_id): ROOT / Path(path).expanduser() for model_id, path in paths.items()}


def _secret(text: str) -> str | None:
    if text and (not text.isascii() or not text.isprintable() or " " in text or not text.strip(",")):
        raise ValueError("(hidden)")
    return text or None


_WHOLE = "a whole number from {} to {}".format
_FLAG = "1 or 0 (true, yes, on or false, no, off)"
_PATH = "a folder or file"

VARIABLES: tuple[Variable, ...] = (
    Variable("CACHE_MAX_SIZE", "1000", _WHOLE(0, 10**9), _whole(0, 10**9)),
    Variable("CACHE_MAX_MEMORY_MB", "512", "a number from 0 to 1000000", _number(0, 10**6)),
    Variable("CACHE_TTL_SECONDS", "86400", "a number of seconds, 0 or more; 0 or empty: never", _ttl),
    Variable("DISABLE_RESULT_CACHE", "0", _FLAG, _flag),
    Variable("CACHE_POLICY", "lru", " or ".join(POLICIES), _choice(*POLICIES)),
    Variable("CACHE_DISK_MB", "4096", "a number from 0 to 100000000; 0: none", _number(0, 10**8)),
    Variable("CACHE_BACKEND", "lru", "lru or dict", _choice("lru", "dict")),
    Variable("ORFEAS_HOST", "127.0.0.1", "a host name or an IP address", _host),
    Variable("ORFEAS_PORT", "5000", _WHOLE(0, 65535) + "; 0: any free one", _whole(0, 65535)),
    Variable(
        "ORFEAS_MODE",
        "safe_fallback",
        "full_ai, powerful_3d or safe_fallback",
        _choice("full_ai", "powerful_3d", "safe_fallback"),
    ),
    Variable("ORFEAS_MODEL", "builtin", "a model's id, such as builtin", _model_id),
    Variable("ORFEAS_MODEL_PATH", "", _PATH + ", or a JSON object of these by model id", _model_path),
    Variable("ORFEAS_MODEL_IDLE_MINUTES", "0", "a number of minutes from 0 to 100000; 0: never", _number(0, 10**5)),
    Variable("ORFEAS_DEVICE", "auto", "auto, cpu, cuda, cuda:N or mps", _device),
    Variable("ORFEAS_API_KEY", "", "printable ASCII without spaces; several with commas between", _secret),
    Variable("CORS_ORIGINS", "", "origins such as http://localhost:8080, with commas between, or *", _origins),
    Variable("MAX_UPLOAD_MB", "50", "a number from 0.001 to 4000", _number(0.001, 4000)),
    Variable("MAX_IMAGE_PIXELS", "50000000", _WHOLE(1, 10**9), _whole(1, 10**9)),
    Variable("MAX_QUEUED_JOBS", "32", _WHOLE(1, 10**6), _whole(1, 10**6)),
    Variable("ORFEAS_WORKERS", "1", _WHOLE(1, 64), _whole(1, 64)),
    Variable("DATA_DIR", "data", _PATH, _folder),
    Variable("UPLOADS_DIR", "", _PATH + "; empty: DATA_DIR/uploads", _folder),
    Variable("OUTPUTS_DIR", "", _PATH + "; empty: DATA_DIR/outputs", _folder),
    Variable("RETENTION_DAYS", "0", "a number of days from 0 to 100000; 0: for ever", _number(0, 10**5)),
    Variable("UPLOADS_DISK_MB", "4096", "a number from 0 to 100000000; 0: no bound", _number(0, 10**8)),
    Variable("ENABLE_RATE_LIMITING", "false", _FLAG, _flag),
    Variable("RATE_LIMIT_PER_MINUTE", "60", _WHOLE(1, 10**6), _whole(1, 10**6)),
    Variable(
        "LOG_LEVEL",
        "INFO",
        "DEBUG, INFO, WARNING, ERROR or CRITICAL",
        lambda text: _choice("debug", "info", "warning", "error", "critical")(text).upper(),
    ),
)

_EMPTY_MEANS_SOMETHING = {"CACHE_TTL_SECONDS"}


@dataclass(frozen=True, slots=True)
class Settings:
    """The parsed variables; a field is the variable's name in lower case without the `ORFEAS_` prefix."""

    cache_max_size: int
    cache_max_memory_mb: float
    cache_ttl_seconds: float | None
    disable_result_cache: bool
    cache_policy: PolicyName
    cache_disk_mb: float
    cache_backend: str
    host: str
    port: int
    mode: str
    model: str
    model_path: Path | Mapping[str, Path] | None
    model_idle_minutes: float
    device: str
    api_key: str | None
    cors_origins: tuple[str, ...]
    max_upload_mb: float
    max_image_pixels: int
    max_queued_jobs: int
    workers: int
    data_dir: Path
    uploads_dir: Path
    outputs_dir: Path
    retention_days: float
    uploads_disk_mb: float
    enable_rate_limiting: bool
    rate_limit_per_minute: int
    log_level: str

    @property
    def max_upload_bytes(self) -> int:
        """`MAX_UPLOAD_MB` in bytes (MB = 10^6)."""
        return int(self.max_upload_mb * 1_000_000)

    @property
    def candidates(self) -> tuple[str, ...]:
        """The models to try, best first."""
        by_mode = {
            "full_ai": (self.model,),
            "powerful_3d": ("builtin",),
            "safe_fallback": (self.model, "builtin"),
        }
        return by_mode[self.mode]

    @property
    def model_paths(self) -> Mapping[str, Path]:
        """Where each model's weights are, by its id."""
        if isinstance(self.model_path, Path):
            return {self.model: self.model_path}
        return self.model_path or {}

    @property
    def api_keys(self) -> tuple[str, ...]:
        """Every key that opens the server; the first one's owner also has what was made before there was a key."""
        return tuple(key for key in (self.api_key or "").split(",") if key)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK_HOSTS or self.host.startswith("127.")


def load_settings(environ: Mapping[str, str] | None = None, env_file: Path | None = ROOT / ".env") -> Settings:
    """Parse the environment over `env_file` over the defaults; raise SettingsError on the first bad variable."""
    environ = os.environ if environ is None else environ
    from_file = dotenv_values(env_file) if env_file and env_file.is_file() else {}
    values: dict[str, Any] = {}
    for variable in VARIABLES:
        text = environ.get(variable.name, from_file.get(variable.name))
        text = variable.default if text is None else text.strip()
        if not text and variable.name not in _EMPTY_MEANS_SOMETHING:
            text = variable.default
        try:
            value = variable.parse(text)
        except ValueError as error:
            shown = "" if variable.parse is _secret else f"={text!r}"
            raise SettingsError(f"{variable.name}{shown} is not allowed: it must be {variable.allowed}") from error
        values[variable.name.lower().removeprefix("orfeas_")] = value
    values["uploads_dir"] = values["uploads_dir"] or values["data_dir"] / "uploads"
    values["outputs_dir"] = values["outputs_dir"] or values["data_dir"] / "outputs"
    settings = Settings(**{field.name: values[field.name] for field in fields(Settings)})
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    """Refuse values that are fine alone but unsafe together."""
    if not settings.on_loopback and not settings.api_key:
        raise SettingsError(
            f"ORFEAS_HOST={settings.host!r} needs ORFEAS_API_KEY: only a loopback address may run without a key"
        )
    if "*" in settings.cors_origins and not settings.on_loopback:
        raise SettingsError("CORS_ORIGINS='*' is not allowed: it must be a list of origins unless the host is loopback")
