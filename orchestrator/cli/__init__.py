"""The command line: commands read arguments, call, and print; no rule is decided here.

One module per noun registers its commands on the app. An error that a person can mend ends the program with a message
and an exit code of its own; only a defect in the program shows a traceback.
"""

import gc
import sys


def main() -> None:
    """Run the program and exit with its code, 130 after a Ctrl-C."""
    gc.disable()  # while modules load: they make no garbage, and looking for some takes a tenth of the start
    try:
        _main()
    except KeyboardInterrupt:
        sys.exit(130)


def _main() -> None:
    """Answer from the outline of the commands, which loads little, or run the program."""
    # Imports stand here so that a Ctrl-C while modules load is answered as well.
    from catalog.errors import TunemillError
    from catalog.plain import replace_unencodable
    from orchestrator.cli.outline import answer
    from orchestrator.cli.streams import guard_streams

    guard_streams()
    replace_unencodable(sys.stdout, sys.stderr)
    try:
        if answer(sys.argv[1:]):
            return
    except TunemillError as error:
        from orchestrator.cli.app import end_in_words

        sys.exit(end_in_words(error))
    from orchestrator.cli.app import run

    run()
