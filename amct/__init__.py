import hrnet  # noqa: F401 reports failed imports in one line
