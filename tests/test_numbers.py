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
        (nats(0.00024866), "0.00"),
        (signed(-0.984), "−0.98"),
        (signed(-0.0001), "+0.00"),
        (signed(0.984), "+0.98"),
        (signed(math.nan), "–"),
        (significant(-1_234_567), "−1,234,567"),
        (significant(-math.inf), "−∞"),
        (significant(0.0), "0"),
        (significant(-1234.5678), "−1235"),
        (significant(12.0), "12"),
        (significant(1e-5), "0.00001"),  # from there on in full
        (significant(9.996e-6), "9.996e−6"),
        (significant(-9.8765e-06, 2), "−9.9e−6"),
        (significant(0.123456), "0.1235"),
        (readable(0.001), "0.001"),
        (readable(0.0009994), "0.0009994"),
        (readable(-0.36551), "−0.366"),
        (readable(-0.0), "0.000"),
        (readable(12.34567), "12.346"),
        (readable(-math.inf), "−∞"),
        (readable(12_345), "12,345"),
        (nats(0.01), "0.01"),
        (nats(0.00994), "0.01"),
        (nats(0.0), "0.00"),
        (nats(math.nan), "–"),
        (nats(12.346), "12.35"),
    ],
)
def test_digits_hide_no_value_and_minus_signs_are_none_of_hyphens(text, expected):
    assert text == expected
