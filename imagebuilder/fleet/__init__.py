"""Many images at once: jobs, who runs them, and what became of each."""
