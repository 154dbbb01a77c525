"""What the notebooks call to judge an answer: one module per lab."""
