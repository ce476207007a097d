"""Commands that are killed, starved of disk space, or run at once: what they leave behind. See CONTRIBUTING.md."""
