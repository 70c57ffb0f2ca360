"""Every op on a real GPU, from its cubin and from PTX that its driver compiles: the checks that the CPU shim runs.

Under compute-sanitizer, once per tool (the cubin half suffices):
    compute-sanitizer --tool memcheck  python -m pytest tests/gpu/test_kernels.py -k "cubin and agrees"
    compute-sanitizer --tool racecheck python -m pytest tests/gpu/test_kernels.py -k "cubin and agrees"
"""

import pytest
import torch
from codeclens import kernels
from codeclens.kernels import cuda_images as images
from codeclens.kernels import eager, launch, registry
from support import kernel_checks
from support.blocks import quantized_weight

UNFIT = launch.Machine().unfit()
pytestmark = pytest.mark.skipif(UNFIT is not None, reason=f"needs an NVIDIA GPU: {UNFIT}")

GPU = torch.device("cuda", 0)


@pytest.fixture(params=["cubin", "ptx"])
def fused(request):
    """The machine's registry, with cubins or with PTX alone; a call that is refused fails the test."""
    current = registry.Registry(cubins=request.param == "cubin")
    before = registry.use(current)
    yield current
    registry.use(before)
    assert not current.refused
    assert all(name.endswith(".ptx") for name in current.used.values()) or current.cubins


@pytest.mark.parametrize("family", images.FAMILIES)
def test_family_agrees_with_its_references(fused, family):
    kernel_checks.check_family(family, GPU)


def test_codebook_agrees_at_the_size_of_a_latent(fused):
    kernel_checks.check_codebook(GPU, sizes=((230400, 64, 14), (70000, 17, 8)))


@pytest.mark.parametrize("qtype", registry.BLOCK_ALIGNMENT)
def test_linear_agrees_at_qwen3vl_shapes(fused, qtype):
    kernel_checks.check_linear(qtype, GPU, shapes=((1024, 2560), (2048, 2048), (1001, 12288)))


def test_many_rows_go_through_dequantised_tiles():
    blocks = quantized_weight("Q4_K", 4100, 2048, seed=5).to(GPU)
    x = torch.randn(300, 2048, device=GPU)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = kernels.quantized_linear(x, blocks, "Q4_K")
    peak = torch.cuda.max_memory_allocated() - before
    wanted = x.double() @ kernel_checks.gguf_values(blocks, "Q4_K").to(GPU).double().T
    assert ((found.double() - wanted).norm() / wanted.norm()).item() < 2e-6
    assert peak < 4100 * 2048 * 4, "the whole weight was in floating point at once"


def test_block_match_equals_its_eager_twin_on_whole_frames(fused):
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (3, 3, 32, 32), generator=generator).float()
    smooth = torch.nn.functional.interpolate(small, (512, 512), mode="bicubic").clamp(0, 255).byte()
    reference = smooth.permute(0, 2, 3, 1).contiguous().to(GPU)
    current = reference.roll((9, -14), (1, 2)) // 2 * 2
    for radius in (16, 32, 64):
        found = kernels.block_match(current, reference, radius, 4.0, True)
        for ours, theirs in zip(found, eager.block_match(current, reference, radius, 4.0, True), strict=True):
            assert torch.equal(ours, theirs)


def test_graph_capture_after_warming(fused):
    kernels.warm(GPU)
    blocks, x = quantized_weight("Q4_K", 256, 2048, seed=6).to(GPU), torch.randn(1, 2048, device=GPU)
    frames = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, device=GPU)

    def work():
        mv = kernels.block_match(frames[:1], frames[1:], 8, 4.0)[0]
        return kernels.quantized_linear(x, blocks, "Q4_K"), kernels.dequantize(blocks, "Q4_K"), mv

    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = work()
    x.copy_(torch.randn(1, 2048))
    frames.copy_(frames.flip(0))
    graph.replay()
    for found, wanted in zip(captured, work(), strict=True):
        assert torch.equal(found, wanted)


def test_work_is_queued_on_the_current_stream(fused):
    blocks, stream = quantized_weight("Q8_0", 4096, 4096, seed=7), torch.cuda.Stream(GPU)
    with torch.cuda.stream(stream):
        late = blocks.pin_memory().to(GPU, non_blocking=True)
        found = kernels.dequantize(late, "Q8_0")
    stream.synchronize()
    assert torch.equal(found.cpu(), kernel_checks.gguf_values(blocks, "Q8_0"))


def test_tensors_on_two_devices_are_refused():
    blocks = quantized_weight("Q8_0", 4, 64, seed=8)
    with pytest.raises(ValueError, match="quantized_linear: x is on cuda:0 and blocks on cpu"):
        kernels.quantized_linear(torch.ones(1, 64, device=GPU), blocks, "Q8_0")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_second_gpu_while_the_first_is_current(fused):
    blocks = quantized_weight("Q4_K", 8, 512, seed=9)
    with torch.cuda.device(0):
        found = kernels.dequantize(blocks.to("cuda:1"), "Q4_K")
    assert found.device == torch.device("cuda", 1)
    assert torch.equal(found.cpu(), kernel_checks.gguf_values(blocks, "Q4_K"))
