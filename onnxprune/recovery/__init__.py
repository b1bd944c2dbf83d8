"""Repair of pruned models without a training framework."""
