"""The ledger: the append-only record of attempts and time, and the state of the work.

`Ledger` opens it. `plans` writes the takes to make, `facts` writes what workers report, `work` tracks the takes that
were sent, and `readings` reads. Only the holder of the writer lock feeds and records; readers need no lock.
"""

from orchestrator.ledger.ledger import Ledger, open_ledger
from orchestrator.ledger.plans import BegunRun
from orchestrator.ledger.slots import KnownTake
from orchestrator.ledger.tables import AttemptRow, RenditionRow, RunRow, SpanRow, TakeRow, WorkerRow

__all__ = [
    "AttemptRow",
    "BegunRun",
    "KnownTake",
    "Ledger",
    "RenditionRow",
    "RunRow",
    "SpanRow",
    "TakeRow",
    "WorkerRow",
    "open_ledger",
]
