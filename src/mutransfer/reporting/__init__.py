"""Claims to figures and tables. Reads committed numbers, trains nothing, needs no torch."""
