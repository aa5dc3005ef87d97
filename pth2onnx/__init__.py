# This import makes hrnet report a failed import in one line
import hrnet  # noqa: F401
