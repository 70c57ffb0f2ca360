"""Everything that computes. Nothing in here imports ComfyUI."""
