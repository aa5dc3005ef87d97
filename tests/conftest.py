"""What all tests begin with."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a loaded machine is no fault of what is tested
settings.load_profile("untimed")
