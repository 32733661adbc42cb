"""Batch Normalization from scratch, the experiments of the book, and its explorable figures."""
