"""The store seam: one contract suite for every store, and what is SQLite's own beside it."""
