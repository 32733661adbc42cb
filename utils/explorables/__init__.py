"""The explorables of the book, one module a chapter."""
