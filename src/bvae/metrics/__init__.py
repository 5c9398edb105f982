"""Scores of codes against factors, for any model: each a pure function of arrays and a `torchmetrics.Metric`."""

from bvae.metrics.arrays import check, check_codes
from bvae.metrics.beta_vae import BetaVAEScore, beta_vae_score
from bvae.metrics.dci import DCI, DCIScores, dci
from bvae.metrics.explicitness import Explicitness, explicitness
from bvae.metrics.factor_vae import FactorVAEScore, factor_vae_score
from bvae.metrics.irs import InterventionalRobustness, interventional_robustness
from bvae.metrics.metric import Codes, CodesMetric
from bvae.metrics.mig import MutualInformationGap, mutual_information_gap
from bvae.metrics.modularity import Modularity, modularity
from bvae.metrics.mutual_information import discretize, entropy, mutual_information
from bvae.metrics.sap import SAP, sap
from bvae.metrics.udr import unsupervised_disentanglement_ranking
from bvae.metrics.unsupervised import (
    ActiveUnits,
    TotalCorrelation,
    WassersteinCorrelation,
    active_units,
    total_correlation,
    wasserstein_correlation,
)

__all__ = [
    "DCI",
    "SAP",
    "ActiveUnits",
    "BetaVAEScore",
    "Codes",
    "CodesMetric",
    "DCIScores",
    "Explicitness",
    "FactorVAEScore",
    "InterventionalRobustness",
    "Modularity",
    "MutualInformationGap",
    "TotalCorrelation",
    "WassersteinCorrelation",
    "active_units",
    "beta_vae_score",
    "check",
    "check_codes",
    "dci",
    "discretize",
    "entropy",
    "explicitness",
    "factor_vae_score",
    "interventional_robustness",
    "modularity",
    "mutual_information",
    "mutual_information_gap",
    "sap",
    "total_correlation",
    "unsupervised_disentanglement_ranking",
    "wasserstein_correlation",
]
