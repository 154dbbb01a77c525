"""What to run: grids, panels and searches, and what an experiment declares."""
