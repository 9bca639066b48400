"""Settings of the hardware tests."""

import gc
import warnings
from collections.abc import Iterator

import pytest
from amaranth.hdl import UnusedElaboratable


@pytest.fixture
def refused_parts() -> Iterator[None]:
    """Collect parts whose arguments were refused at once, without Amaranth's warning that they were never used."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        gc.collect()
