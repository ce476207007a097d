"""Requirements, and the indexes that satisfy them."""
