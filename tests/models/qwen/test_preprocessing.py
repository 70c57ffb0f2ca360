"""Pictures are shown in whole cells of 32 pixels, within their tokens."""

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.qwen.preprocessing import fit_picture, smart_resize
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None)
@given(height=st.integers(1, 6000), width=st.integers(1, 6000), most=st.integers(128, 16384))
def test_a_picture_is_shown_in_whole_cells_and_within_its_tokens(height, width, most):
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(InputError, match="factor of 200"):
            smart_resize(height, width, most)
        return
    rows, columns = (side / 32 for side in smart_resize(height, width, most))
    assert rows == int(rows) >= 1 and columns == int(columns) >= 1
    if max(height, width) < 20 * min(height, width):
        assert rows * columns <= most
        assert rows + 1 > height / width * (columns - 1) and columns + 1 > width / height * (rows - 1)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 512), (512, 512)), ((400, 500), (384, 512)), ((1080, 1920), (768, 1344)), ((100, 100), (256, 256))],
)
def test_known_sizes(size, expected):
    """By hand: half a cell rounds to even; 1080 x 1920 goes down by 1.40625; 100 x 100 goes up to 8 x 8 cells."""
    assert smart_resize(*size) == expected
    assert fit_picture(np.zeros((*size, 3), np.uint8)).shape == (*expected, 3)
