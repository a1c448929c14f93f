"""Kinds of tasks: each module here has `prepare(cfg) -> Work`, and a task's YAML names it as `kind`."""
