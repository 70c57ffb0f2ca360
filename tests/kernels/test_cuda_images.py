"""The committed images are what the sources build, and nothing else is ever loaded."""

import re
import shutil
from concurrent.futures import ProcessPoolExecutor

import pytest
from codeclens.kernels import archive, build, fused, registry
from codeclens.kernels import cuda_images as images
from hypothesis import given, settings
from hypothesis import strategies as st

ENTRY = re.compile(r"\.visible \.entry (\w+)\((.*?)\)", re.DOTALL)
PARAMETER = re.compile(r"\.param \.(\w+)")
PTX_TYPES = {"p": "u64", "q": "u64", "i": "u32", "f": "f32"}
ELF_MACHINE_CUDA = 190
ELF_ABI_VERSION = 8


def all_images() -> list[str]:
    return [name for name, _, _ in build.jobs()]


def test_sources_are_those_that_were_built():
    """Fails after an edit of a source until `python -m codeclens.kernels.build` has run."""
    sums = images.archive().sums()
    assert {name: sums.get(name) for name in images.archive().source_sums()} == images.archive().source_sums()


def test_archive_holds_every_image_and_its_sum():
    sums = images.archive().sums()
    assert set(sums) == {*all_images(), *images.archive().source_sums(), "images.zip"}
    assert archive.member_sums({name: images.archive().read(name) for name in all_images()}).items() <= sums.items()


def quick(name: str) -> bool:
    """The linear family takes most of the time, so one image stands for its seven; `build --check` builds all."""
    return not name.startswith("linear.") or name == "linear.sm_75.cubin"


@pytest.mark.slow
def test_building_again_gives_the_same_bytes():
    try:
        build.nvrtc()
    except OSError as error:
        pytest.skip(str(error))
    plan = [job for job in build.jobs() if quick(job[0])]
    with ProcessPoolExecutor() as pool:
        built = list(pool.map(build.compile_image, [job[1] for job in plan], [job[2] for job in plan]))
    sums = images.archive().sums()
    found = archive.member_sums({job[0]: image for job, image in zip(plan, built, strict=True)})
    assert found == {name: sums[name] for name in found}


def test_source_that_does_not_compile_is_reported_with_its_line(tmp_path):
    try:
        build.nvrtc()
    except OSError as error:
        pytest.skip(str(error))
    for path in images.FOLDER.glob("*.cu*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "broken.cu").write_text('#include "common.cuh"\nKERNEL broken() { int x = ; }\n')
    with pytest.raises(ValueError, match=r"broken.cu does not compile for sm_90:(.|\n)*broken.cu\(2\)"):
        build.compile_image("broken", "sm_90", tmp_path)


@pytest.mark.parametrize("family", images.FAMILIES)
def test_cubins_are_of_their_architecture(family):
    for capability in images.CAPABILITIES:
        image = images.archive().read(images.cubin_name(family, capability))
        assert image[:4] == b"\x7fELF"
        assert int.from_bytes(image[18:20], "little") == ELF_MACHINE_CUDA
        compact, wide = image[48:50]  # e_flags hold the SM version in the first byte, in the second from ABI 8 on
        assert (wide if image[ELF_ABI_VERSION] >= 8 else compact) == 10 * capability[0] + capability[1]


@pytest.mark.parametrize("family", images.FAMILIES)
def test_kernels_take_the_arguments_that_are_passed(family):
    """PTX declares every kernel of the registry, no other, with the widths that launch.packed gives its arguments."""
    ptx = images.archive().read(images.ptx_name(family))
    assert ptx.endswith(b"}\n\0") or ptx.rstrip(b"\n\0").endswith(b"}") and ptx.endswith(b"\0")
    text = ptx.decode()
    assert ".version 8.7" in text and ".target sm_75" in text
    declared = {name: PARAMETER.findall(parameters) for name, parameters in ENTRY.findall(text)}
    kernels = registry.KERNELS.items()
    assert declared == {
        name: [PTX_TYPES[c] for c in signature] for name, (held, signature) in kernels if held == family
    }


def test_shared_memory_fits_what_every_gpu_grants():
    """48 KiB a block: the static part, which PTX declares, and the largest dynamic one, which fused.window plans."""
    for family in images.FAMILIES:
        ptx = images.archive().read(images.ptx_name(family)).decode()
        arrays = re.findall(r"\.shared \.align \d+ \.b8 [\w$]+\[(\d+)\];", ptx)
        scalars = re.findall(r"\.shared \.align \d+ \.\w+ [\w$]+;", ptx)
        assert sum(map(int, arrays)) + 8 * len(scalars) <= 48 * 1024 - fused.SHARED_BYTES
    for radius in range(registry.MAX_RADIUS + 1):
        strip, shared_bytes = fused.window(radius)
        assert strip >= 1 and shared_bytes <= fused.SHARED_BYTES


@pytest.mark.parametrize(
    "capability, chosen",
    [
        ((7, 0), []),
        ((7, 2), []),
        ((7, 5), ["sm_75", "compute_75"]),
        ((8, 0), ["sm_80", "compute_75"]),
        ((8, 7), ["sm_86", "sm_80", "compute_75"]),
        ((8, 9), ["sm_89", "sm_86", "sm_80", "compute_75"]),
        ((9, 0), ["sm_90", "compute_75"]),
        ((10, 3), ["compute_75"]),
        ((12, 1), ["sm_120", "compute_75"]),
        ((13, 0), ["compute_75"]),
    ],
)
def test_candidates_are_of_the_same_major_version_or_ptx(capability, chosen):
    assert [name.split(".")[1] for name in images.candidates("motion", capability)] == chosen


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name in ("images.zip", archive.SUMS):
        shutil.copy(images.FOLDER / name, folder)
    return folder, (folder / "images.zip").read_bytes()


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_damaged_archive_is_refused(copy, data):
    folder, whole = copy
    if data.draw(st.booleans(), label="cut off"):
        spoilt = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        byte = data.draw(st.integers(0, len(whole) - 1))
        spoilt = whole[:byte] + bytes([whole[byte] ^ 1 << data.draw(st.integers(0, 7))]) + whole[byte + 1 :]
    (folder / "images.zip").write_bytes(spoilt)
    with pytest.raises(OSError, match=r"images\.zip is damaged"):
        images.archive(folder).read("motion.sm_86.cubin")


@settings(deadline=None, max_examples=20)
@given(sums=st.binary(max_size=400))
def test_damaged_sums_are_refused(copy, sums):
    folder, whole = copy
    (folder / "images.zip").write_bytes(whole)
    before = (folder / archive.SUMS).read_bytes()
    (folder / archive.SUMS).write_bytes(sums)
    try:
        with pytest.raises(OSError):
            images.archive(folder).read("motion.sm_86.cubin")
    finally:
        (folder / archive.SUMS).write_bytes(before)


def test_writing_gives_back_what_was_written(tmp_path):
    (tmp_path / "one.cu").write_text("// source\r\n")
    written = {"a.sm_75.cubin": b"\0code" * 100, "a.compute_75.ptx": b".version\0"}
    images.archive(tmp_path).write(written)
    assert {name: images.archive(tmp_path).read(name) for name in written} == written
    assert sorted(path.name for path in tmp_path.iterdir()) == [archive.SUMS, "images.zip", "one.cu"]
    assert set(images.archive(tmp_path).sums()) == {*written, "images.zip", "one.cu"}
