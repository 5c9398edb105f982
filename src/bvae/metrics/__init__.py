"""Scores of codes against factors, for any model: each a pure function of arrays and a `torchmetrics.Metric`."""

from bvae.metrics.arrays import binned, check, check_codes, discretize
from bvae.metrics.beta_vae import BetaVAEScore, beta_vae_score
from bvae.metrics.dci import DCI, DCIScores, dci
from bvae.metrics.dcimig import DCIMIG, dcimig
from bvae.metrics.explicitness import Explicitness, explicitness
from bvae.metrics.factor_vae import FactorVAEScore, factor_vae_score
from bvae.metrics.infomec import InfoMEC, infomec
from bvae.metrics.irs import InterventionalRobustness, interventional_robustness
from bvae.metrics.jemmig import JEMMIG, jemmig
from bvae.metrics.metric import ACTIVE_BELOW, Codes, CodesMetric, SplitMetric
from bvae.metrics.mig import ActiveMutualInformationGap, MutualInformationGap, mutual_information_gap
from bvae.metrics.mig_sampled import SampledMutualInformationGap, sampled_mutual_information_gap
from bvae.metrics.mig_sup import MIGSup, mig_sup
from bvae.metrics.modularity import Modularity, modularity
from bvae.metrics.mutual_information import BinnedMetric, conditional_information, entropy, mutual_information
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
    "ACTIVE_BELOW",
    "DCI",
    "DCIMIG",
    "JEMMIG",
    "SAP",
    "ActiveMutualInformationGap",
    "ActiveUnits",
    "BetaVAEScore",
    "BinnedMetric",
    "Codes",
    "CodesMetric",
    "DCIScores",
    "Explicitness",
    "FactorVAEScore",
    "InfoMEC",
    "InterventionalRobustness",
    "MIGSup",
    "Modularity",
    "MutualInformationGap",
    "SampledMutualInformationGap",
    "SplitMetric",
    "TotalCorrelation",
    "WassersteinCorrelation",
    "active_units",
    "beta_vae_score",
    "binned",
    "check",
    "check_codes",
    "conditional_information",
    "dci",
    "dcimig",
    "discretize",
    "entropy",
    "explicitness",
    "factor_vae_score",
    "infomec",
    "interventional_robustness",
    "jemmig",
    "mig_sup",
    "modularity",
    "mutual_information",
    "mutual_information_gap",
    "sampled_mutual_information_gap",
    "sap",
    "total_correlation",
    "unsupervised_disentanglement_ranking",
    "wasserstein_correlation",
]
