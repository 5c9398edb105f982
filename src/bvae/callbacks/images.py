from __future__ import annotations

from lightning import Callback, LightningDataModule, Trainer


def check_images_are_served(trainer: Trainer, callback: Callback) -> None:
    """Raise ValueError where a training has no data module, or one that serves no images for evaluation."""
    name, data = type(callback).__name__, trainer.datamodule
    if data is None:
        raise ValueError(f"{name} takes its images from a data module: fit with datamodule=…")
    if getattr(data.predict_dataloader, "__func__", None) is LightningDataModule.predict_dataloader:
        raise ValueError(f"{name} takes its images from predict_dataloader, which {type(data).__name__} hasn't got")
