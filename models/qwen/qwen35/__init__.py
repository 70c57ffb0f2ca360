"""Qwen3.5: what its files say, its two kinds of attention, and the gated delta rule."""
