"""The experiments of the book: one module a subject, its settings and its evidence. Nothing here draws."""
