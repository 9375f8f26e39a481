"""YAML → one immutable Snapshot: documents are read with positions, checked against tables, and compiled, or refused with every mistake."""
