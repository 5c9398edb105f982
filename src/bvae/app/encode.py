"""Write the codes of images as a table. `bvae-encode --help` tells how it is called."""

from __future__ import annotations

import logging
from pathlib import Path

from bvae.terminal import interruptible, say

with interruptible():
    import hydra
    from hydra.utils import to_absolute_path
    from omegaconf import DictConfig

    from bvae.app import resume
    from bvae.app.errors import CONF, InputError, input_errors, job, run_app
    from bvae.app.evaluate import checked_run, data_of, images_that_fit, served, typed, with_the_runs_keys, writable
    from bvae.app.targets import own_imported
    from bvae.runs.latest import folder_of

log = logging.getLogger("encode")


def encode(cfg: DictConfig) -> None:
    """Load the run, encode every image and write the table."""
    if cfg.run is None:
        raise InputError("give the folder of a run, run=outputs/…")
    with input_errors():
        run = checked_run("run", Path(folder_of("run", str(cfg.run))))

    # Heavy imports stand here, so that --help and mistakes in the configuration answer at once.
    from bvae import evaluation
    from bvae.app.assemble import quiet
    from bvae.checkpoints.load import load
    from bvae.evaluation.code_table import check_ending, write_table
    from bvae.evaluation.names import read_names

    quiet()
    with input_errors():
        out = Path(to_absolute_path(str(cfg.out)))
        check_ending(out)
        writable(out.parent)
        data = data_of(run, cfg)
        data.update(batch_size=1, val_fraction=0.0)  # the training's, which fewer images may not go with
        datamodule = served(data, resume.typed(typed()))
        with own_imported(resume.conf_folders()):
            vae = load(run / "checkpoints" / "last.ckpt")
    with images_that_fit("run", run):
        codes = evaluation.encode(vae, datamodule, every_image=True)
    images = getattr(datamodule.image_set, "names", None) or [str(n) for n in range(len(codes.mean))]
    write_table(out, codes, images, read_names(run))
    say(f"Codes of {len(images):,} images: {out}")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="encode")
def main(cfg: DictConfig) -> None:
    """Encode what the command names."""
    with job(log):
        encode(cfg)


def run() -> None:
    """Run `bvae-encode`."""
    run_app(main, with_the_runs_keys)
