"""Learned codes with random weights, for the small random models of both families."""

import pytest
import torch
from codeclens.models.code.learned.learned_code import Header, LearnedCode, base_of, make_adapter, make_network
from codeclens.models.qwen import load_qwen3vl


@pytest.fixture(scope="package", params=["qwen3vl", "qwen35"])
def tiny_model(request, qwen3vl_fixtures, qwen35_fixtures):
    folder, name = {
        "qwen3vl": (qwen3vl_fixtures / "tiny-tied", "tiny-tied-F16"),
        "qwen35": (qwen35_fixtures, "tiny-hybrid-F16"),
    }[request.param]
    return load_qwen3vl(folder / f"{name}.gguf", folder / f"mmproj-{name}.gguf")


NETWORKS = {
    "ptoken": {"side": 4, "rank": 4},
    "delta": {"width": 32, "heads": 2, "layers": 1, "channels": [16, 16, 32]},
}


@pytest.fixture(params=list(NETWORKS))
def mode(request):
    return request.param


@pytest.fixture
def code(tiny_model, mode):
    return random_code(tiny_model, mode)


def random_code(model, mode: str, rank: int = 0, seed: int = 0) -> LearnedCode:
    """A code whose every weight is drawn, those that start at zero among them."""
    header = Header(mode, base_of(model, text=rank > 0), radius=8, side=128, network=NETWORKS[mode], rank=rank)
    network = make_network(header, model.config.vision)
    adapter = make_adapter(model.text, rank) if rank else None
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in filter(None, (network, adapter)):
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return LearnedCode(header, network.requires_grad_(False), adapter)
