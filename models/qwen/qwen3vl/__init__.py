"""Qwen3-VL: what its files say, and its attention."""
