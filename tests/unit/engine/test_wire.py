"""The wire between worker and engine goes on blocking, whatever the libraries beside it do to the process."""

from __future__ import annotations

import os
import socket
from multiprocessing import get_context

import numpy as np
import pytest

from workers.engine.wire import receive_block, send_block, write_block


@pytest.fixture
def default_timeout():
    """As Celery and kombu set it while they close a connection."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.01)
    yield
    socket.setdefaulttimeout(before)


def test_a_default_timeout_of_sockets_does_not_reach_the_pipe(default_timeout):
    ours, theirs = get_context("spawn").Pipe(duplex=True)
    audio = np.arange(12, dtype=np.float32).reshape(2, 6)
    with ours, theirs:
        send_block(theirs, write_block([audio]), os.getpid())
        os.set_blocking(theirs.fileno(), True)  # the engine's process has no such library
        assert receive_block(ours, audio.nbytes).tolist() == list(range(12))
        assert os.get_blocking(ours.fileno())
