from tests.contract.checks import clock, every_cache_is_sound  # noqa: F401
