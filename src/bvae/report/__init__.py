"""The report of a run, one HTML file that opens from disk."""

from bvae.report.page import report

__all__ = ["report"]
