"""Wire formats: octets to frozen dataclasses and back. No state, no keys, no I/O."""
