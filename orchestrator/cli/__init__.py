"""The command line: commands read arguments, call, and print; no rule is decided here.

One module per noun registers its commands on the app. An error that a person can mend ends the program with a message
and an exit code of its own; only a defect in the program shows a traceback.
"""

import sys


def main() -> None:
    """Run the program and exit with its code, 130 after a Ctrl-C."""
    try:
        from orchestrator.cli.app import run  # noqa: PLC0415 - a Ctrl-C while this loads is answered as well

        run()
    except KeyboardInterrupt:
        sys.exit(130)
