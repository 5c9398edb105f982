from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from torch import nn

from bvae.callbacks import WakeIdleUnits
from bvae.callbacks.wake import _code_layers, wake
from bvae.data import ArrayImages, ImagesDataModule
from bvae.losses import Capacity, Context, Control, Factor, Loss
from bvae.model import VAE, posterior_of
from bvae.training import Training

NO_CODE_LAYER = (
    "callbacks.wake needs an encoder that ends in a linear layer of 2D outputs with a bias, and a decoder that begins "
    "with one of D inputs"
)


def parts(last: nn.Module | None = None) -> tuple[nn.Module, nn.Module]:
    """A pair for images of 8×8 whose unit 1 is active, units 0 and 2 idle, unit 0 the more so."""
    torch.manual_seed(0)
    code = last or nn.Linear(16, 6)
    if last is None:
        with torch.no_grad():
            code.weight[[0, 2]] = 0
            code.weight[3:] = 0
            code.bias.copy_(torch.tensor([0.0, 0, 0, 0.01, -3, 0]))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.LeakyReLU(), code)
    return encoder, nn.Sequential(nn.Linear(3, 64), nn.Unflatten(1, (1, 8, 8)))


def test_an_idle_unit_gets_a_mean_that_varies_and_the_others_stay():
    vae, images = VAE(*parts()), torch.rand(500, 1, 8, 8)
    before, latents = vae.encode(images), torch.randn(5, 3)
    with torch.no_grad():
        assert wake(vae, images, 1) == [0]
        after = vae.encode(images)
        torch.testing.assert_close(after.mean[:, 1:], before.mean[:, 1:])
        torch.testing.assert_close(after.log_variance[:, 1:], before.log_variance[:, 1:])
        assert after.mean[:, 0].mean().abs() < 1e-4
        assert after.mean[:, 0].std() == pytest.approx(1, abs=1e-4)
        assert not after.log_variance[:, 0].any()
        still = latents * torch.tensor([0.0, 1, 1])
        torch.testing.assert_close(vae.decode(still), VAE(*parts()).decode(still))
        assert (vae.decode(latents) - vae.decode(still)).abs().max() < 0.2
    assert wake(vae, images, 5) == [2]  # 0 tells something now, at a variance of 1 as under DIP-VAE


def test_where_nothing_of_an_image_arrives_none_is_woken():
    vae = VAE(*parts())
    torch.nn.init.zeros_(vae.encoder[1].weight)
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    assert wake(vae, torch.rand(500, 1, 8, 8), 2) == []
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())


class Losses(WakeIdleUnits):
    """Notes each step's loss and terms."""

    def on_train_start(self, trainer, pl_module) -> None:
        super().on_train_start(trainer, pl_module)
        self.seen: list[dict] = []
        count = pl_module.count
        pl_module.count = lambda terms: (self.seen.append(terms), count(terms))


def fit(
    callback: WakeIdleUnits, encoder: nn.Module, decoder: nn.Module, loss: Loss | None = None, **arguments
) -> Training:
    training = Training(encoder, decoder, loss or Capacity(gamma=10, max_capacity=5, anneal_steps=10))
    images = ImagesDataModule(ArrayImages(torch.rand(32, 1, 8, 8).numpy()), batch_size=8)
    trainer = Trainer(
        accelerator="cpu", max_steps=6, callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **arguments,
    )  # fmt: skip
    trainer.fit(training, images)
    return training


def test_while_units_wake_some_of_their_nats_are_free_and_afterwards_the_objective_is_its_own():
    callback = Losses(2, 5, units=1, beta=[[0, 3]], free_nats=[[2, 0.2], [4, 0.2], [4, 0]])
    fit(callback, *parts())
    assert callback.woken == [0]
    for step, terms in enumerate(callback.seen):
        found = float((terms["loss"] - terms["reconstruction"]).detach())
        kl = terms["kl_per_unit"].tolist()
        if 2 <= step < 5:
            free = 0.2 if step < 4 else 0
            assert found == pytest.approx(3 * (max(kl[0] - free, 0) + kl[1] + kl[2]), abs=1e-3), step
            assert (float(terms["beta"]), float(terms["free_nats"])) == (3, pytest.approx(free)), step
        else:
            assert "beta" not in terms  # the capacity objective has none
            gap = abs(float(terms["information"]) - 0.5 * step)
            assert found == pytest.approx(10 * (gap + float(terms["offset"])), abs=1e-3), step


class Logged(WakeIdleUnits):
    """Notes what the trainer logs at each step."""

    every_n_steps = 1
    logged = ()

    def on_train_batch_end(self, trainer, *_) -> None:
        self.logged = [*self.logged, set(trainer.logged_metrics)]


def test_what_only_the_waking_logs_isnt_logged_on_afterwards():
    callback = Logged(1, 3, units=1)
    fit(callback, *parts(), log_every_n_steps=1)
    assert ["train/beta" in logged for logged in callback.logged] == [False, True, True, False, False, False]
    assert all("train/gamma" in logged for logged in callback.logged[3:])


def test_where_no_unit_is_idle_the_objective_stays():
    encoder, decoder = parts()
    with torch.no_grad():
        encoder[-1].bias[3:] = -3
    callback = Losses(2, 5)
    fit(callback, encoder, decoder)
    assert callback.woken == []
    for step, terms in enumerate(callback.seen):
        expected = 10 * (abs(float(terms["information"]) - 0.5 * step) + float(terms["offset"]))
        assert float((terms["loss"] - terms["reconstruction"]).detach()) == pytest.approx(expected, abs=1e-3), step


def test_a_training_that_ends_while_units_wake_has_its_own_objective_again():
    training = fit(WakeIdleUnits(2, 100), *parts())
    assert training.step_terms is None


def test_a_controller_holds_still_and_a_discriminator_goes_on_learning():
    control = Control(k_i=0.05)
    assert float(fit(WakeIdleUnits(0, 100), *parts(), control).loss.beta) == control.beta_min
    factor = Factor(latent_dim=3, discriminator_width=8)
    before = [weight.clone() for weight in factor.parameters()]
    fit(WakeIdleUnits(0, 100), *parts(), factor)
    assert not any(torch.equal(weight, old) for weight, old in zip(factor.parameters(), before, strict=True))


def test_what_cant_be_woken_is_refused_before_the_training():
    encoder, decoder = parts(nn.Sequential(nn.Linear(16, 7), nn.Linear(7, 5)))
    with pytest.raises(ValueError, match=NO_CODE_LAYER):
        fit(WakeIdleUnits(2, 5), encoder, decoder)
    for arguments, message in (
        ((-1, 5), "first_step must be 0 or more, got -1"),
        ((6, 5), "last_step must be 6 or more, got 5"),
    ):
        with pytest.raises(ValueError, match=message):
            WakeIdleUnits(*arguments)


def test_of_several_processes_each_takes_the_weights_that_the_first_has_drawn():
    training = Training(*parts(), Capacity())
    data = ImagesDataModule(ArrayImages(torch.rand(32, 1, 8, 8).numpy()), batch_size=8)
    data.prepare_data()
    data.setup()
    drawn = []

    def broadcast(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        drawn.append({name: value + 1 for name, value in state.items()})
        return drawn[-1]

    trainer = SimpleNamespace(global_step=2, datamodule=data, strategy=SimpleNamespace(broadcast=broadcast))
    WakeIdleUnits(2, 5).on_train_batch_start(trainer, training, None, 0)
    for layer, state in zip((training.model.encoder[-1], training.model.decoder[0]), drawn, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items())


def test_a_woken_units_weights_in_the_decoder_are_small_and_many_units_are_woken_by_their_variance():
    vae = VAE(nn.Linear(4, 2 * 5), nn.Linear(5, 3_000))
    with torch.no_grad():
        vae.encoder.weight.zero_()
        vae.encoder.weight[1] = 5  # active
        vae.encoder.weight[8, 0] = 2  # σ² = exp(2x − 1), whose mean over x in [0, 1] is sinh(1) = 1.18
        vae.encoder.bias.copy_(torch.tensor([0.0, 0, 0, 0, 0, 0.0, -4, 0.1, -1, 0.02]))
    before = vae.decoder.weight.clone()
    vae.encode = lambda images: posterior_of(vae.encoder(images))  # of images that are features already
    features = torch.rand(200, 4)
    features[:, 3] = 0.5  # one that doesn't vary leaves the others
    assert wake(vae, features, 3) == [3, 2, 4]
    assert vae.decoder.weight[:, 2:].std(dim=0).tolist() == pytest.approx([0.01] * 3, rel=0.1)
    assert torch.equal(vae.decoder.weight[:, :2], before[:, :2])
    assert vae.encoder.bias[5:].tolist() == pytest.approx([0, -4, 0, 0, 0])
    assert not vae.encoder.weight[[0, 5, 6, 7, 8, 9]].any()
    directions = vae.encoder.weight[2:5]
    assert (torch.corrcoef(directions).abs() - torch.eye(3)).max() < 0.999  # each its own


@pytest.mark.parametrize(
    ("step", "woken", "warns"),
    [(0, [], False), (2, [], False), (3, [], True), (4, [], True), (5, [], False), (9, [], False), (3, [1], False)],
)
def test_a_training_that_goes_on_past_the_first_step_says_that_nothing_is_woken(step, woken, warns, caplog):
    callback, saved = WakeIdleUnits(2, 5), WakeIdleUnits(2, 5)
    saved.woken = woken
    callback.load_state_dict(saved.state_dict())
    data = ImagesDataModule(ArrayImages(torch.rand(8, 1, 8, 8).numpy()), batch_size=8)
    callback.on_train_start(SimpleNamespace(global_step=step, datamodule=data), Training(*parts(), Capacity()))
    assert ("wakes no unit" in caplog.text) == warns


def test_whatever_ends_a_training_gives_it_its_objective_back_and_a_captured_one_is_refused():
    callback, training = WakeIdleUnits(2, 5), Training(*parts(), Capacity())
    for end in (callback.on_train_end, lambda *given: callback.on_exception(*given, KeyboardInterrupt())):
        training.step_terms = print
        with pytest.raises(
            ValueError,
            match="changes the objective of some steps, so they can't be captured: use capture=false",
        ):
            callback.check(training)
        end(None, training)
        assert training.step_terms is None
    callback.check(training)


def test_units_are_woken_at_their_step_once_and_in_no_other(monkeypatch):
    at, training = [], Training(*parts(), Capacity())
    monkeypatch.setattr("bvae.callbacks.wake.wake", lambda model, images, units: at.append((len(images), units)) or [0])
    monkeypatch.setattr("bvae.callbacks.wake.sample", lambda data, n, device: (torch.zeros(n, 1, 8, 8), None))
    trainer = SimpleNamespace(datamodule=None, strategy=SimpleNamespace(broadcast=lambda state: state))
    for first, last, expected, waking in ((2, 4, 1, [2, 2, 3]), (2, 2, 0, [])):
        at.clear()
        callback, found = WakeIdleUnits(first, last, units=3), []
        for trainer.global_step in (0, 1, 2, 2, 3, 4, 5):  # a step may have several batches
            callback.on_train_batch_start(trainer, training, None, 0)
            found += [trainer.global_step] if training.step_terms is not None else []
        assert (at, found) == ([(1000, 3)] * expected, waking)


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        ([nn.Linear(4, 6, bias=False)], [nn.Linear(3, 4)]),
        ([nn.Linear(4, 5)], [nn.Linear(3, 4)]),
        ([nn.Identity()], [nn.Linear(3, 4)]),
        ([nn.Linear(4, 6)], [nn.Identity()]),
        ([nn.Linear(4, 6), nn.Linear(6, 4)], [nn.Linear(3, 4)]),
        ([nn.Linear(4, 6)], [nn.Linear(4, 3), nn.Linear(3, 4)]),
        # The only one that can be woken:
        ([nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 6), nn.Identity()], [nn.Linear(3, 4), nn.Linear(4, 4)]),
    ],
)
def test_a_code_lies_between_the_encoders_last_layer_and_the_decoders_first(encoder, decoder):
    training = Training(nn.Sequential(*encoder), nn.Sequential(*decoder), Capacity())
    if len(encoder) == 4:
        WakeIdleUnits(2, 5).check(training)
        assert _code_layers(training.model) == (encoder[2], decoder[0])
    else:
        with pytest.raises(ValueError, match=NO_CODE_LAYER):
            WakeIdleUnits(2, 5).check(training)


def test_while_units_wake_the_losss_own_parts_learn_as_ever_and_it_stays_in_training_mode():
    training = Training(*parts(), Control())
    modes, terms = [], training.terms
    training.terms = lambda images, context: modes.append(training.loss.training) or terms(images, context)
    callback = WakeIdleUnits(2, 5, beta=[[0, 2]], free_nats=[[0, 0.5]])
    callback.woken = [2]
    found = callback._terms(training, torch.rand(4, 1, 8, 8), Context(torch.tensor(3), 4))
    assert (modes, training.loss.training) == ([False], True)
    kl = found["kl_per_unit"].tolist()
    charged = kl[0] + kl[1] + max(kl[2] - 0.5, 0)
    assert float((found["loss"] - found["reconstruction"]).detach()) == pytest.approx(2 * charged, abs=1e-3)
    assert (float(found["beta"]), float(found["free_nats"])) == (2, 0.5)
