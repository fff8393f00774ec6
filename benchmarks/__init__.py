"""Benchmarks in the layout of asv; each file also runs on its own."""
