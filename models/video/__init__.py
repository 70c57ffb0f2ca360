"""Video in, codec primitives and a GOP plan out."""
