"""Recipes: parts described by plain values and built again, and what a file may not have built."""

from __future__ import annotations

import enum
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.checkpoints import recipes
from bvae.checkpoints.recipes import build, describe, parts_of, without_numpy


class Numbers(nn.Module):
    """A module with an argument of each kind."""

    def __init__(self, value, items=(), inner=None):
        super().__init__()
        self.value, self.items, self.inner = value, items, inner


class Forgets(nn.Module):
    def __init__(self, width):
        super().__init__()


class Colour(enum.Enum):
    RED = 1


def recipe(name: str, **arguments: object) -> dict[str, object]:
    return {"class": name, "arguments": arguments}


def of_torch(name: str, **arguments: object) -> dict[str, object]:
    return recipe(f"torch.nn.modules.{name}", **arguments)


HERE = f"{__name__}.Numbers"
DESCRIBED = [
    (3, 3),
    ("a", "a"),
    (None, None),
    ((1, [True, 2.5]), [1, [True, 2.5]]),
    (np.float32(0.5), 0.5),
    (np.int64(4), 4),
    (Numbers(1, (2, np.int8(3)), nn.Tanh()), recipe(HERE, value=1, items=[2, 3], inner=of_torch("activation.Tanh"))),
    (nn.LeakyReLU(0.3), of_torch("activation.LeakyReLU", negative_slope=0.3, inplace=False)),
    (nn.Hardtanh(-2.0, 3.0), of_torch("activation.Hardtanh", min_val=-2.0, max_val=3.0, inplace=False)),
    (nn.Linear(2, 3), of_torch("linear.Linear", in_features=2, out_features=3, bias=True)),
    (nn.Linear(2, 3, bias=False), of_torch("linear.Linear", in_features=2, out_features=3, bias=None)),
    (partial(torch.optim.SGD, lr=0.1), recipe("torch.optim.sgd.SGD", lr=0.1)),
    (torch.optim.Adagrad, recipe("torch.optim.adagrad.Adagrad")),
]


@pytest.mark.parametrize(("value", "expected"), DESCRIBED, ids=lambda value: type(value).__name__)
def test_a_part_is_described_by_plain_values_and_built_again(value, expected):
    found = describe(value)
    assert found == expected
    assert type(found) is type(expected)
    again = build(found)
    assert describe(again) == found
    if isinstance(value, nn.Module):
        assert type(again) is type(value)


def test_what_cant_be_described_is_named():
    with pytest.raises(ValueError, match=r"^Forgets must keep its argument 'width' as an attribute of that name$"):
        describe(Forgets(3))
    for value in (Colour.RED, {"a": 1}, nn.Tanh, lambda x: x):
        with pytest.raises(
            ValueError, match=r"^a checkpoint can't describe .*: it is neither a plain value nor a module$"
        ):
            describe(Numbers(value))


def test_numpys_numbers_become_pythons_and_containers_stay_of_their_kind():
    found = without_numpy({"a": [np.float64(0.5), (np.int32(2), "x")], np.str_("b"): torch.ones(1)})
    assert found["a"] == [0.5, (2, "x")]
    assert [type(found["a"][0]), type(found["a"][1]), type(found["a"][1][0])] == [float, tuple, int]
    assert torch.equal(found["b"], torch.ones(1))

    class Own(dict):
        pass

    own = Own(a=np.float64(1))
    assert without_numpy(own) is own


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"arguments": {}}, r"the checkpoint describes a part by \['arguments'\], not by class and arguments"),
        ({"class": "torch.nn.Tanh"}, r"the checkpoint describes a part by \['class'\], not by class and arguments"),
        (
            recipe("torch.nn.nowhere.X"),
            r"needs the class torch\.nn\.nowhere\.X, which can't be imported: No module",
        ),
        (
            recipe("unheard.of.X"),
            r"class unheard\.of\.X, which isn't imported .* it, import unheard\.of first$",
        ),
        (recipe("X"), r"names the class X, which isn't imported .* import X first$"),
        (
            recipe("torch.optim.lr_scheduler.StepLR"),
            r"StepLR, which is neither a torch module nor an optimizer$",
        ),
        (recipe("torch.hub.load"), r"names the class torch\.hub\.load, which isn't imported"),
        (recipe("torchmetrics.Metric"), r"names the class torchmetrics\.Metric, which isn't imported"),
        (recipe("lightning.LightningModule"), r"names the class lightning\.LightningModule, which isn't imported"),
        (recipe("torch.nnx.Tanh"), r"names the class torch\.nnx\.Tanh, which isn't imported"),
    ],
)
def test_what_a_file_may_not_have_built_is_named(given, why):
    import torchmetrics  # noqa: F401

    with pytest.raises(ValueError, match=why):
        build([1, {"class": HERE, "arguments": {"value": given}}])


def test_parts_that_are_given_take_the_place_of_recipes(monkeypatch):
    made = parts_of(
        {"encoder": recipe("torch.nn.Tanh"), "decoder": recipe("gone.X")}, {"decoder": 5, "more": 6}, "x.ckpt"
    )
    assert isinstance(made.pop("encoder"), nn.Tanh)
    assert made == {"decoder": 5, "more": 6}
    with pytest.raises(ValueError, match=r"^x\.ckpt doesn't say how its decoder was made: pass decoder=…$"):
        parts_of({"decoder": None}, {}, "x.ckpt")
    with pytest.raises(ValueError, match=r"^x\.ckpt: the checkpoint names .* import gone first, or pass decoder=…$"):
        parts_of({"decoder": recipe("gone.X")}, {}, "x.ckpt")
    values = recipe(HERE, value=[1, 2, 3, 4])  # a dict, a name, a dict, a list and four numbers: 8 values
    monkeypatch.setattr(recipes, "_MOST_VALUES", 8)
    assert parts_of({"encoder": values}, {}, "x.ckpt")["encoder"].value == [1, 2, 3, 4]
    monkeypatch.setattr(recipes, "_MOST_VALUES", 7)
    with pytest.raises(ValueError, match=r"^x\.ckpt describes a part by more than 7 values$"):
        parts_of({"encoder": values}, {}, "x.ckpt")
    parts_of({"encoder": values}, {"encoder": 1}, "x.ckpt")


def test_a_class_is_taken_from_its_own_module_as_it_is(monkeypatch):
    assert build(recipe("bvae.architectures.mlp.MLPEncoder", latent_dim=3, image_shape=[1, 4, 4])).latent_dim == 3
    assert isinstance(build(describe(ConvEncoder(2, nn.Tanh(), (3, 8, 8)))).activation, nn.Tanh)
    decoder = build(describe(ConvDecoder(2, False, image_shape=(3, 8, 8))))
    assert (decoder.fast, tuple(decoder.image_shape)) == (False, (3, 8, 8))
    built = build(recipe("torch.optim.Adam", lr=0.5, betas=[0.5, 0.9]))
    assert (built.func, built.keywords) == (torch.optim.Adam, {"lr": 0.5, "betas": [0.5, 0.9]})
    monkeypatch.delitem(sys.modules, "bvae.architectures.mlp")
    assert type(build(recipe("bvae.architectures.mlp.MLPEncoder", image_shape=[1, 4, 4]))).__name__ == "MLPEncoder"
