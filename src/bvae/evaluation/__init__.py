"""What a model has learned: codes, latent table, scores and pictures."""

from bvae.evaluation.codes import codes_of, encode, read_codes
from bvae.evaluation.evaluate import Evaluation, evaluate, evaluate_codes, show, units_of
from bvae.evaluation.latent_table import LatentUnit, latent_table
from bvae.evaluation.scores import Score, Scoring
from bvae.evaluation.turning import Turn, turning

__all__ = [
    "Evaluation",
    "LatentUnit",
    "Score",
    "Scoring",
    "Turn",
    "codes_of",
    "encode",
    "evaluate",
    "evaluate_codes",
    "latent_table",
    "read_codes",
    "show",
    "turning",
    "units_of",
]
