"""The command line: commands read arguments, call, and print; nothing is decided here.

One module per noun registers its commands on the app. Errors a person can mend end as words and an exit
code of their own; only a defect in the program shows a traceback.
"""

from orchestrator.cli.app import main

__all__ = ["main"]
