"""The keeper: a small process that owns whatever moves, and stops it (docs/control.md)."""
