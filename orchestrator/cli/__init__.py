"""The command line: commands read arguments, call, and print; nothing is decided here.

One module per noun registers its commands on the app. Errors a person can mend end as words and an exit
code of their own; only a defect in the program shows a traceback.
"""

import sys


def main() -> None:
    """Run the program and exit with its code, 130 after a Ctrl-C."""
    try:
        from orchestrator.cli.app import run  # noqa: PLC0415 - a Ctrl-C while this loads is answered as well

        run()
    except KeyboardInterrupt:
        sys.exit(130)
