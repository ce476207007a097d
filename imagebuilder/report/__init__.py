"""Results written down for people and for machines."""
