"""Learned codes: networks that turn the change of a P frame into a few tokens, and the file that keeps them."""
