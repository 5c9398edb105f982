"""A run's report, its explorer, and the comparison of a sweep's jobs: HTML files that open from disk."""

from bvae.report.comparison import compare, show_comparison
from bvae.report.explorer import Explored, explore
from bvae.report.page import report, title_of

__all__ = ["Explored", "compare", "explore", "report", "show_comparison", "title_of"]
