"""What a run says of itself: the frozen report, and how it looks on a console."""

from onnxprune.report.building import GroupCost, Inspection, inspection_of, report_of
from onnxprune.report.report import FixedAxis, GroupReport, Report

__all__ = ["FixedAxis", "GroupCost", "GroupReport", "Inspection", "Report", "inspection_of", "report_of"]
