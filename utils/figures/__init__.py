"""The figures of the book: one module a chapter. Drawing and wording; the numbers are those of the experiments."""
