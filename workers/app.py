"""Celery's entry point: decodes a message and calls `render_take`; nothing about music is decided here.

A message is acknowledged when its take is recorded. Threads carry the takes. This module handles signals itself,
because Celery's handlers would wait for takes that no engine is going to render.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery
from celery.apps.worker import Worker as CeleryWorker
from celery.exceptions import CPendingDeprecationWarning, Reject, SecurityWarning
from celery.worker import state as celery_state
from kombu.entity import Exchange, Queue

from catalog.broker_answers import in_words
from catalog.orders import OrderVerifier
from catalog.queues import RENDER_TASK, TRANSPORT_OPTIONS
from workers.ingress import ingress_amqp
from workers.logs import without_traceback
from workers.render import WorkerContext, render_take
from workers.scheduler.request import TakeReturned

CANCEL_TIMEOUT_S = 3.0  # the loop looks at its tasks once a second at least


class RenderWorker(CeleryWorker):
    """A Celery worker that leaves signals alone."""

    def install_platform_tweaks(self, worker: CeleryWorker) -> None:
        """Install no signal handlers; `workers.service` handles the signals."""

    def stop_consuming(self) -> bool:
        """Receive no more messages, while rejections still reach the broker; False when there is no connection.

        Celery's own warm shutdown ends its loop first, and would send rejections only after the last take.
        """
        consumer = getattr(self, "consumer", None)
        if consumer is None or consumer.hub is None or consumer.task_consumer is None:
            return False
        cancelled = threading.Event()

        def cancel() -> None:
            consumer.task_consumer.cancel()
            cancelled.set()

        consumer.hub.call_soon(cancel)
        return cancelled.wait(CANCEL_TIMEOUT_S)

    def end(self) -> None:
        """Let `start` return when every thread is done."""
        celery_state.should_stop = 0


def make_app(
    broker_url: str, context: WorkerContext, *, keys: Mapping[str, str] | None = None, trusted: Sequence[str] = ()
) -> Celery:
    """The Celery application of a worker, with its one task.

    `keys` names the broker's keys for messages that the worker's login has received. `trusted` holds the public keys,
    one of which must have signed an order; when it is empty, no signature is required.
    """

    def on_refused(error: Exception) -> None:
        context.on_trouble(in_words(error, broker_url))

    verifier = OrderVerifier(trusted) if trusted else None
    app = Celery("tunemill", broker=broker_url, amqp=ingress_amqp(verifier, on_refused))
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # holds no more than there are threads
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        task_create_missing_queues=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # come back whenever the broker does
        broker_transport_options={**TRANSPORT_OPTIONS, **(keys or {})},
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
        task_send_sent_event=False,
        worker_enable_remote_control=False,  # heartbeats say who lives; commands from the broker are not accepted
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )

    @app.task(name=RENDER_TASK, bind=True)
    def render(self: Any, message: dict[str, Any]) -> None:
        try:
            # The sender shows the take's id in place of the arguments.
            receipt = str(getattr(self.request, "receipt", None) or "")
            reads = int(getattr(self.request, "reads", None) or 1)
            render_take(message, context, shown_id=str(self.request.kwargsrepr), receipt=receipt, reads=reads)
        except TakeReturned:
            raise Reject("the worker is stopping", requeue=True) from None

    return app


def make_worker(app: Celery, *, name: str, queues: Sequence[str], threads: int) -> RenderWorker:
    """A worker that reads `queues`, in this order, and holds at most `threads` takes."""
    for queue in queues:  # without an exchange there is nothing to bind, and no key to write but the queue
        app.amqp.queues[queue] = Queue(queue, Exchange(""), routing_key=queue)
    # Celery logs every message that it receives; our own lines log the outcome of each take.
    logging.getLogger("celery").setLevel(logging.WARNING)
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)  # a take given back is no event to warn of
    # A broker that restarts is an event, not a defect.
    logging.getLogger("celery.worker.consumer.consumer").addFilter(without_traceback)
    # Root is usual on rented machines, and pickle, the reason for Celery's warning, is not accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    worker = RenderWorker(
        app=app,
        hostname=name,
        pool_cls="threads",
        concurrency=threads,
        queues=list(queues),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="WARNING",
    )
    # Whenever it loses its connection, Celery tells of a default that will change and that `make_app` does not rely on.
    # Its constructor has asked for such warnings, so they are turned off after it.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    return worker
