from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from torch import nn

from bvae.callbacks import WakeIdleUnits
from bvae.callbacks.wake import wake
from bvae.data import ArrayImages, ImagesDataModule
from bvae.losses import Capacity, Control, Factor, Loss
from bvae.model import VAE
from bvae.training import Training


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
    with pytest.raises(ValueError, match="wake needs an encoder that ends in a linear layer of 2D outputs"):
        fit(WakeIdleUnits(2, 5), encoder, decoder)
    for arguments, message in (((-1, 5), "first_step must be 0 or more"), ((6, 5), "last_step must be 6 or more")):
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
