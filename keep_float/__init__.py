"""Find the operators that should stay in float: `keep_float.search`."""

# This import makes hrnet report a failed import in one line
import hrnet  # noqa: F401
