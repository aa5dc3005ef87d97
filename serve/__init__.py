"""Serve a compiled model over HTTP."""
