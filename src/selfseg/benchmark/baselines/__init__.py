"""Classical baselines: one file each, found by its name. They stand in the benchmark's tables and are no methods."""
