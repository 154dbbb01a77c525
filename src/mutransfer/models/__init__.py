"""Plain torch modules. Every line that µP cares about carries the mark ``# µP``."""
