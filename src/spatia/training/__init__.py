"""Training: one loop for any list of stages, its run folder and its checkpoints."""
