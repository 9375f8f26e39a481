"""Proofs about policies: claims, and what one policy changes against another. `encoding` is the one file that imports z3."""
