"""Qwen3-VL and Qwen3.5 from their GGUF or .safetensors files, in our own torch modules."""

from .loading import Qwen3VL, find_mmproj, load_qwen3vl, load_text, load_vision

__all__ = ["Qwen3VL", "find_mmproj", "load_qwen3vl", "load_text", "load_vision"]
