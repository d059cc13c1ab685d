"""The only room that knows HTTP: status numbers, JSON, headers, keys of access."""
