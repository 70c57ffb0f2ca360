"""The curve of an evaluation, read back from its SVG."""

import xml.etree.ElementTree as ElementTree

import pytest
from codeclens.models.drawing.curve import CurvePoint, accuracy_curve

SVG = "{http://www.w3.org/2000/svg}"


def test_the_curve_draws_every_point_in_order():
    curves = {
        "a < b": [CurvePoint(400, 0.85, (0.8, 0.9)), CurvePoint(100, 0.75, (0.7, 0.8))],
        "one": [CurvePoint(200, 0.9, (0.9, 0.9))],
    }
    root = ElementTree.fromstring(accuracy_curve(curves))
    (line,) = root.findall(f"{SVG}polyline")
    (left, low), (right, high) = ([float(value) for value in pair.split(",")] for pair in line.get("points").split())
    assert left < right and low > high
    dots = [dot for dot in root.findall(f"{SVG}circle") if dot.get("r") == "4"]
    assert len(dots) == 3
    (single,) = (dot for dot in dots if dot.get("fill") != line.get("stroke"))
    # Twice 100 is half of 400 on a logarithmic axis.
    assert float(single.get("cx")) == pytest.approx((left + right) / 2, abs=0.1)
    words = [text.text for text in root.findall(f"{SVG}text")]
    assert [word for word in words if ":" in word] == ["one: 90.0 at 200", "a < b: 85.0 at 400"]
    assert {"70", "90", "100", "200", "prompt tokens a clip"} <= set(words)


def test_a_single_point_is_drawn():
    root = ElementTree.fromstring(accuracy_curve({"alone": [CurvePoint(7, 0.5, (0.5, 0.5))]}))
    (dot,) = (dot for dot in root.findall(f"{SVG}circle") if dot.get("r") == "4")
    assert 62 < float(dot.get("cx")) < 600
