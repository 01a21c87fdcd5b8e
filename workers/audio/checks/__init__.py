"""Checks: flaws of a take's raw audio are found before any gain could hide them."""

from workers.audio.checks.checking import Rejected, check_and_analyse, check_audio

__all__ = ["Rejected", "check_and_analyse", "check_audio"]
