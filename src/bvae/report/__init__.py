"""The report of a run and the comparison of a sweep's, HTML files that open from disk."""

from bvae.report.comparison import compare, show_comparison
from bvae.report.page import report

__all__ = ["compare", "report", "show_comparison"]
