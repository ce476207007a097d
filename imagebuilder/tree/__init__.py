"""An ImageBuilder tree: facts, make, results, image recipes."""
