"""Which backend runs, why not the other, and that torch sees well-formed ops."""

import importlib
import logging
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from codeclens import kernels
from codeclens.__main__ import main
from codeclens.kernels import constraints, launch, native, registry
from support.blocks import quantized_weight

SIGNS = torch.ones((2, 64), dtype=torch.int8)
FRAMES = torch.zeros((1, 32, 48, 3), dtype=torch.uint8)
X = torch.randn(2, 3, 512)
Q4_K = quantized_weight("Q4_K", 6, 512, seed=0)

SAMPLES = {
    "block_match": [(FRAMES, FRAMES, 2, 4.0), (FRAMES, FRAMES, 1, 0.0, True)],
    "dequantize": [(Q4_K, "Q4_K", torch.float16), (quantized_weight("Q8_0", 2, 64, seed=0), "Q8_0")],
    "quantized_linear": [
        (X, Q4_K, "Q4_K", torch.randn(6)),
        (X.clone().requires_grad_(), Q4_K, "Q4_K", torch.randn(6, requires_grad=True)),
        (X, Q4_K, "Q4_K", None, True),
    ],
    "delta_step": [(*torch.randn(3, 2, 8), -torch.rand(2), torch.rand(2), torch.randn(2, 8, 8))],
    "codebook_select": [(torch.randn(50), SIGNS, SIGNS, 4, 5)],
    "codebook_compose": [(torch.arange(4), SIGNS[0, :4].clone(), SIGNS, SIGNS, 5, 50)],
}


@pytest.mark.parametrize("name", registry.OPS)
def test_opcheck(name):
    for sample in SAMPLES[name]:
        torch.library.opcheck(getattr(torch.ops.codeclens, name).default, sample)


@pytest.mark.parametrize("name", registry.OPS)
def test_compiles_as_one_graph(name):
    torch.compiler.reset()
    op = getattr(kernels, name)
    compiled = torch.compile(lambda *sample: op(*sample), backend="aot_eager", fullgraph=True)
    for sample in SAMPLES[name]:
        found, wanted = compiled(*sample), op(*sample)
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_gradient_of_the_linear_layer_is_the_dense_one():
    x, bias = X.double().requires_grad_(), torch.randn(6, dtype=torch.float64, requires_grad=True)
    weight = kernels.dequantize(Q4_K, "Q4_K", torch.float64)
    outward = torch.randn(2, 3, 6, dtype=torch.float64)
    found = torch.autograd.grad(kernels.quantized_linear(x, Q4_K, "Q4_K", bias), (x, bias), outward)
    wanted = torch.autograd.grad(torch.nn.functional.linear(x, weight, bias), (x, bias), outward)
    torch.testing.assert_close(found, wanted)


def test_importing_loads_nothing():
    script = """if True:
        import ctypes, zipfile, torch
        opened = []
        ctypes.CDLL.__init__ = lambda self, name, *rest: opened.append(name)
        zipfile.ZipFile.__init__ = lambda self, name, *rest: opened.append(name)
        from codeclens import kernels
        assert not opened and kernels.registry.current().driver is None, opened
    """
    subprocess.run([sys.executable, "-c", script], check=True)


def test_second_copy_of_the_pack_shares_the_ops():
    """The pack may be installed and lie in the host's custom_nodes as well; torch defines an op once per process."""
    package = sys.modules["second_copy"] = types.ModuleType("second_copy")
    package.__path__ = [str(Path(kernels.__file__).parents[1])]
    try:
        copy = importlib.import_module("second_copy.kernels")
        assert copy.registry is not registry
        assert torch.equal(copy.dequantize(Q4_K, "Q4_K"), kernels.dequantize(Q4_K, "Q4_K"))
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "second_copy"]:
            del sys.modules[name]


@pytest.mark.parametrize(
    "constraint, met, broken, words",
    [
        (constraints.DtypeIn("x", (torch.int8,)), {"x": SIGNS}, {"x": SIGNS.int()}, "x is torch.int32"),
        (constraints.OneOf("qtype", ("Q4_K",)), {"qtype": "Q4_K"}, {"qtype": "TQ1_0"}, "TQ1_0, which has no kernel"),
        (constraints.Between("radius", 0, 128), {"radius": 128}, {"radius": 129}, "radius is 129"),
        (constraints.SizeBetween("x", 0, 1, 2), {"x": SIGNS}, {"x": SIGNS.T}, "dimension 0 of x is 64"),
        (
            constraints.Aligned("x", {"a": 16, "b": 2}, by="k"),
            {"x": torch.ones(8, dtype=torch.uint8)[2:], "k": "b"},
            {"x": torch.ones(8, dtype=torch.uint8)[2:], "k": "a"},
            "x starts 2 bytes after a multiple of 16",
        ),
        (constraints.CapabilityAtLeast(7, 5), {"capability": (8, 0)}, {"capability": (7, 0)}, "capability 7.0"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, (dict, str)) else "",
)  # fmt: skip
def test_constraint_says_what_is_wrong(constraint, met, broken, words):
    assert constraint.refusal(met) is None
    assert words in constraint.refusal(broken)


def test_every_op_is_registered_with_its_family():
    assert set(registry.OPS) == set(SAMPLES)
    assert {op.family for op in registry.OPS.values()} == {family for family, _ in registry.KERNELS.values()}


def test_command_prints_why_nothing_is_fused_without_a_gpu(capsys, monkeypatch):
    monkeypatch.setattr(launch.Machine, "unfit", lambda self: "torch finds no CUDA device")
    assert main(["kernels"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["op", "device", "backend", "image", "why_not"]
    on_gpu = [line for line in lines[1:] if line.split()[1] == "cuda"]
    assert [line.split()[:3] for line in on_gpu] == [[name, "cuda", "eager"] for name in registry.OPS]
    assert all(line.endswith("torch finds no CUDA device") for line in on_gpu)


def test_command_prints_what_the_processor_runs(capsys, monkeypatch):
    before = registry.use(registry.Registry(processor=native.Processor("0")))
    try:
        assert main(["kernels"]) == 0
    finally:
        registry.use(before)
    on_processor = [line for line in capsys.readouterr().out.splitlines() if line.split()[1] == "cpu"]
    assert [line.split()[:3] for line in on_processor] == [[name, "cpu", "eager"] for name in registry.OPS]
    assert "block_match" in on_processor[0] and "switched off with CODECLENS_NATIVE=0" in on_processor[0]


@pytest.mark.parametrize(
    "cuda, hip, reason", [(None, None, "built without CUDA"), ("13.0", "7.0", "ROCm"), ("13.0", None, "no CUDA device")]
)
def test_machines_without_nvidia_are_named(monkeypatch, cuda, hip, reason):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert reason in launch.Machine().unfit()


def test_missing_driver_is_said_once(caplog):
    class Machine(launch.Machine):
        def unfit(self):
            return None

        def driver(self):
            return launch.Driver("libcuda_that_is_not_there.so")

        def capability(self, device):
            return 8, 6

    missing = registry.Registry(Machine())
    with caplog.at_level(logging.WARNING):
        for name in ("dequantize", "dequantize", "block_match"):
            assert "libcuda_that_is_not_there" in missing.refusal(name, torch.device("cuda"), {})
    assert len(caplog.records) == 1
    assert set(missing.refused) == {"dequantize", "block_match"}
