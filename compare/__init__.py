"""Find where accuracy is lost: by stage (compare.classification, compare.pose) or by operator (compare.operators)."""

import hrnet  # noqa: F401 reports failed imports in one line
