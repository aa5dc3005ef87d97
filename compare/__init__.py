"""Where accuracy is lost: by stage (`compare.stages`) and by operator (`compare.operators`)."""
