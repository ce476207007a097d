"""What an image can have and what goes in: indexes, resolution, refusals, the hermetic feed."""
