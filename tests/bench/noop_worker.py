"""A plain Celery worker whose task does nothing: what Celery itself costs on the same broker, and the task's sender."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from celery import Celery

TASK = "tunemill.bench.nothing"
QUEUE = "bench.nothing"


def make_app(broker_url: str) -> Celery:
    """Celery as it comes, but for JSON alone, no results and late acknowledgement, as Tunemill has them."""
    app = Celery("nothing", broker=broker_url, set_as_current=False)
    app.conf.update(task_ignore_result=True, task_acks_late=True, task_default_queue=QUEUE)

    app.task(_nothing, name=TASK)
    return app


def _nothing() -> None:
    """The task."""


def main(argv: Sequence[str]) -> None:
    """Serve the task with so many threads until told to stop."""
    broker_url, threads = argv
    options = ["-P", "threads", "-c", threads, "-Q", QUEUE, "-l", "WARNING"]
    make_app(broker_url).worker_main(
        ["worker", *options, "--without-gossip", "--without-mingle", "--without-heartbeat"]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
