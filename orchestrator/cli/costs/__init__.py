"""`tunemill costs`: the commands of finance."""

from orchestrator.cli.costs.report import register

__all__ = ["register"]
