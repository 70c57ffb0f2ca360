"""The eager twins: every op in plain torch, on any device. They define what the fused kernels must compute."""
