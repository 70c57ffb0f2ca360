"""Training of learned codes: aligned to the frozen tower without labels, then read by the language model's adapter."""
