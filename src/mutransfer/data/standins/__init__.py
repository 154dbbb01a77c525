"""Data sets that are made here, for machines without the real ones; every record and caption says so."""
