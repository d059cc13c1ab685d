"""The release, once: `pyproject.toml`, health, files and records of this version say the same."""

VERSION = "0.3.0"
