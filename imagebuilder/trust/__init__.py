"""Keys, usign, OpenPGP and adb signatures, sums, what was seen, the user's own signing key."""
