"""Other libraries' trainers, with the networks of `plain.py`, taking steps when the benchmark asks for them.

Each runs in an environment of its own: `make bench-peers`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from multiprocessing.connection import Client
from time import perf_counter

import plain
import torch
from torch import Tensor
from torch.utils.data import TensorDataset


class Pace:
    """Counts steps, which the library's trainer reports as they begin and end."""

    def __init__(self, address: str) -> None:
        self.driver = Client(address)
        self._left = 0

    def begin(self) -> None:
        if not self._left:
            self._left = self.driver.recv()
            if not self._left:
                os._exit(0)  # the driver has what it wants; the library's trainer would go on
            self._start = perf_counter()

    def end(self) -> None:
        self._left -= 1
        if not self._left:
            self.driver.send(perf_counter() - self._start)


def pythae(pace: Pace, model: str, batch_size: int, data: Tensor) -> None:
    """pythae's BetaVAE under its BaseTrainer."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import BetaVAE, BetaVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    encoder, decoder = plain.NETWORKS[model](1, 64)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = encoder

        def forward(self, images: Tensor) -> ModelOutput:
            mean, log_variance = self.layers(images).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = decoder

        def forward(self, latents: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(latents).sigmoid())

    class Paced(TrainingCallback):
        def on_train_begin(self, training_config: BaseTrainerConfig, **kwargs: object) -> None:
            pace.begin()

        def on_train_step_end(self, training_config: BaseTrainerConfig, **kwargs: object) -> None:
            pace.end()
            pace.begin()  # there is no call as a step begins

    trainer = BaseTrainer(
        model=BetaVAE(
            BetaVAEConfig(input_dim=(1, 64, 64), latent_dim=10, beta=4.0, reconstruction_loss="bce"),
            encoder=Encoder(),
            decoder=Decoder(),
        ),
        train_dataset=BaseDataset(data, torch.zeros(len(data))),
        training_config=BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(),
            num_epochs=1_000_000,
            learning_rate=5e-4,
            per_device_train_batch_size=batch_size,
        ),
        callbacks=[Paced()],
    )
    trainer.train()


def disent(pace: Pace, model: str, batch_size: int, data: Tensor) -> None:
    """disent's BetaVae, a LightningModule, under Lightning's Trainer."""
    from disent.frameworks.vae import BetaVae
    from disent.model import AutoEncoder, DisentDecoder, DisentEncoder
    from lightning import Callback, Trainer
    from torch.utils.data import DataLoader

    encoder, decoder = plain.NETWORKS[model](1, 64)

    class Encoder(DisentEncoder):
        def __init__(self) -> None:
            super().__init__(x_shape=(1, 64, 64), z_size=10, z_multiplier=2)
            self.layers = encoder

        def encode(self, images: Tensor) -> Tensor:
            return self.layers(images)

    class Decoder(DisentDecoder):
        def __init__(self) -> None:
            super().__init__(x_shape=(1, 64, 64), z_size=10, z_multiplier=1)
            self.layers = decoder

        def decode(self, latents: Tensor) -> Tensor:
            return self.layers(latents)

    class Paced(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            pace.begin()

        def on_train_batch_end(self, *_: object) -> None:
            pace.end()

    class Images(TensorDataset):
        def __getitem__(self, index: int) -> dict[str, tuple[Tensor]]:
            return {"x_targ": super().__getitem__(index)}

    framework = BetaVae(
        model=AutoEncoder(encoder=Encoder(), decoder=Decoder()),
        cfg=BetaVae.cfg(optimizer="adam", optimizer_kwargs={"lr": 5e-4}, recon_loss="bce", loss_reduction="mean_sum"),
    )
    trainer = Trainer(max_epochs=-1, logger=False, enable_checkpointing=False, callbacks=[Paced()])
    trainer.fit(framework, DataLoader(Images(data), batch_size=batch_size, shuffle=True))


if __name__ == "__main__":
    library, address, model, batch_size = sys.argv[1:]
    {"pythae": pythae, "disent": disent}[library](Pace(address), model, int(batch_size), plain.images())
