"""Find where accuracy is lost: by stage (compare.classification, compare.pose) or by operator (compare.operators)."""

# This import makes hrnet report a failed import in one line
import hrnet  # noqa: F401
