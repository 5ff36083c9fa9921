"""Apps: thin faces over the pipeline."""
