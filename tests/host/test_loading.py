"""The pack as ComfyUI loads it."""


def test_host_loads_the_pack_without_complaint(comfyui):
    about_us = [line for line in comfyui.log().splitlines() if "codeclens" in line.lower()]
    assert not [line for line in about_us if "IMPORT FAILED" in line or "rror" in line], about_us
