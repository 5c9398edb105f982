"""Score and picture what a model has learned: `python evaluate.py run=outputs/…`; `--help` tells the rest."""

from bvae.app.evaluate import run

if __name__ == "__main__":
    run()
