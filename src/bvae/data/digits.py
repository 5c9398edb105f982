"""Handwritten digits of 8×8 pixels, which come with scikit-learn."""

from __future__ import annotations

import numpy as np

from bvae.data.image_set import Card, Factors
from bvae.data.own_arrays import ArrayImages

DIGIT = Factors(("digit",), (10,), value_names={"digit": tuple("0123456789")}, categories=("digit",))


class Digits(ArrayImages):
    """The 1,797 handwritten digits that scikit-learn ships, in grey: `sklearn.datasets.load_digits`."""

    factors: Factors | None = DIGIT
    card = Card(
        name="digits",
        about="1,797 handwritten digits of 8×8 pixels by 13 people, the test set of the Optical Recognition of "
        "Handwritten Digits, as scikit-learn ships it.",
        source="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        licence="CC BY 4.0",
        citation="Alpaydin & Kaynak (1998): Optical Recognition of Handwritten Digits, UCI Machine Learning Repository",
    )

    def __init__(self) -> None:
        from sklearn.datasets import load_digits  # which takes a second to import

        found = load_digits()
        super().__init__(np.round(found.images * (255 / 16)).astype(np.uint8), found.target)
        self.factors = DIGIT
