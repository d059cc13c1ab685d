"""Every variable: its default, what is refused and how that is said."""

import subprocess
import sys

import pytest
from live_server import BACKEND

from settings import ROOT, VARIABLES, SettingsError, load_settings
from version import VERSION


def test_defaults():
    settings = load_settings({}, env_file=None)
    assert (settings.cache_max_size, settings.cache_max_memory_mb, settings.cache_ttl_seconds) == (1000, 512, 86400)
    assert (settings.host, settings.port, settings.mode, settings.model) == (
        "127.0.0.1",
        5000,
        "safe_fallback",
        "builtin",
    )
    assert settings.uploads_dir == ROOT / "data" / "uploads"
    assert settings.max_upload_bytes == 50_000_000
    assert not settings.disable_result_cache
    assert (settings.cache_disk_mb, settings.uploads_disk_mb, settings.retention_days) == (4096, 4096, 0)


def test_the_shipped_env_file_lists_every_variable_with_its_default():
    lines = [line for line in (ROOT / ".env").read_text().splitlines() if line and not line.startswith("#")]
    assert dict(line.split("=", 1) for line in lines) == {variable.name: variable.default for variable in VARIABLES}
    assert load_settings({}) == load_settings({}, env_file=None)


def test_the_environment_wins_over_the_file(tmp_path):
    file = tmp_path / ".env"
    file.write_text("CACHE_MAX_SIZE=7\nORFEAS_PORT=81\n")
    settings = load_settings({"ORFEAS_PORT": "82"}, env_file=file)
    assert (settings.cache_max_size, settings.port) == (7, 82)


@pytest.mark.parametrize("text", ["", "0", "0.0"])
def test_no_lifetime(text):
    assert load_settings({"CACHE_TTL_SECONDS": text}).cache_ttl_seconds is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CACHE_MAX_SIZE", "-1"),
        ("CACHE_MAX_SIZE", "1.5"),
        ("CACHE_MAX_SIZE", "many"),
        ("CACHE_MAX_MEMORY_MB", "nan"),
        ("CACHE_MAX_MEMORY_MB", "inf"),
        ("CACHE_TTL_SECONDS", "-1"),
        ("CACHE_TTL_SECONDS", "nan"),
        ("CACHE_DISK_MB", "-1"),
        ("CACHE_DISK_MB", "nan"),
        ("CACHE_DISK_MB", "4 GB"),
        ("UPLOADS_DISK_MB", "-1"),
        ("RETENTION_DAYS", "-1"),
        ("RETENTION_DAYS", "never"),
        ("DISABLE_RESULT_CACHE", "maybe"),
        ("CACHE_BACKEND", "redis"),
        ("CACHE_POLICY", "fifo"),
        ("ORFEAS_PORT", "65536"),
        ("ORFEAS_HOST", "not a host"),
        ("ORFEAS_MODE", "fast"),
        ("ORFEAS_MODEL", "../x"),
        ("ORFEAS_DEVICE", "gpu"),
        ("CORS_ORIGINS", "localhost:3000"),
        ("CORS_ORIGINS", "http://a.example/path"),
        ("MAX_UPLOAD_MB", "0"),
        ("MAX_IMAGE_PIXELS", "0"),
        ("MAX_QUEUED_JOBS", "0"),
        ("ORFEAS_WORKERS", "0"),
        ("ENABLE_RATE_LIMITING", "2"),
        ("RATE_LIMIT_PER_MINUTE", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("ORFEAS_API_KEY", "two words"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_the_variable_and_what_is_allowed(name, value):
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value})
    text = str(caught.value)
    allowed = next(variable.allowed for variable in VARIABLES if variable.name == name)
    assert name in text
    assert allowed in text
    assert "\n" not in text
    assert (value in text) == (name != "ORFEAS_API_KEY")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4"])
def test_beyond_loopback_needs_a_key(host):
    with pytest.raises(SettingsError, match="ORFEAS_API_KEY"):
        load_settings({"ORFEAS_HOST": host})
    assert load_settings({"ORFEAS_HOST": host, "ORFEAS_API_KEY": "secret"}).api_key == "secret"


def test_any_origin_only_on_loopback():
    assert load_settings({"CORS_ORIGINS": "*"}).cors_origins == ("*",)
    with pytest.raises(SettingsError, match="CORS_ORIGINS"):
        load_settings({"CORS_ORIGINS": "*", "ORFEAS_HOST": "0.0.0.0", "ORFEAS_API_KEY": "secret"})


def test_the_server_does_not_start_on_a_bad_value(tmp_path):
    environment = {"CACHE_MAX_SIZE": "lots", "DATA_DIR": str(tmp_path / "data"), "PATH": ""}
    run = subprocess.run([sys.executable, BACKEND / "main.py"], env=environment, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "CACHE_MAX_SIZE='lots'" in run.stderr
    assert not (tmp_path / "data").exists()


def test_no_other_module_reads_the_environment():
    for path in BACKEND.rglob("*.py"):
        if "tests" not in path.parts and path.name != "settings.py":
            text = path.read_text()  # a WSGI request has an environ, too
            for word in ("os.environ", "getenv", "import environ"):
                assert word not in text, path


def test_the_package_says_the_same_version():
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()
