"""What a user writes: boards, configs, overlays, locks; merging, faults, secrets."""
