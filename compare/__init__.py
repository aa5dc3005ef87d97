"""Where accuracy is lost: by stage (`compare.classification`, `compare.pose`), by operator (`compare.operators`)."""
