"""Fixtures of the tests of published models."""

import logging
from collections.abc import Iterator

import pytest
from tests.unit.bench.published.toy import make_problem

from spatia.bench.methods.method import Problem
from spatia.log import logger


@pytest.fixture
def problem() -> Problem:
    """The toy problem."""
    return make_problem()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the log says: it does not go to the root logger once the command line has configured it."""
    before = logger.propagate
    logger.propagate = True
    with caplog.at_level(logging.INFO, logger=logger.name):
        yield caplog
    logger.propagate = before
