"""What a run says of itself: the frozen report, and how it looks on a console."""

from onnxprune.report.report import FixedAxis, GroupReport, Report

__all__ = ["FixedAxis", "GroupReport", "Report"]
