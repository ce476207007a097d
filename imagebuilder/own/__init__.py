"""The user's own packages for one image: apps, requirements, recipes, shaken and repacked packages."""
