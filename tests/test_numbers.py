from __future__ import annotations

import math

import pytest

from bvae.evaluation.numbers import nats, readable, signed, significant


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (readable(0.36519), "0.365"),
        (readable(0.00026444), "0.0002644"),  # 0.000 would hide it
        (readable(3), "3"),
        (readable(math.nan), "–"),
        (readable(math.inf), "∞"),
        (readable(0.0), "0.000"),
        (readable(-0.0004), "−0.0004"),
        (significant(2.2982965e-05), "0.00002298"),
        (significant(121.3245, 3), "121"),
        (significant(737_280), "737,280"),
        (significant(5.023e-7), "5.023e−7"),  # ten digits would be wider than a tile on a phone
        (nats(5.4419), "5.44"),
        (nats(0.00024866), "0.0002487"),
        (signed(-0.984), "−0.98"),
        (signed(-0.0001), "+0.00"),
    ],
)
def test_digits_hide_no_value_and_minus_signs_are_none_of_hyphens(text, expected):
    assert text == expected
