"""One training loop for everything, its checkpoints and logs, and the only place that reads configs."""
