"""YAML → one immutable Snapshot: read with positions, checked against tables, compiled or refused with every mistake."""
