"""The numbers that the book is held to."""

VERBOSE = "--verbose"
