"""Serve a compiled model over HTTP."""

import hrnet  # noqa: F401 reports failed imports in one line
