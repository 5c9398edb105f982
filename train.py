"""Train a β-VAE: `python train.py experiment=quick`; `python train.py --help` tells the rest."""

from bvae.app.train import run

if __name__ == "__main__":
    run()
