"""Commands that are killed, starved of disk space, or run at once, and what they leave behind."""
