"""Progress bars on standard error, off when asked to be quiet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")


@dataclass(frozen=True)
class Reporter:
    """Show progress of long work, or nothing when `quiet`."""

    quiet: bool = False

    @contextmanager
    def bars(self) -> Iterator[Progress]:
        """Open a group of progress bars."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), disable=self.quiet) as progress:
            yield progress

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield items, counting them in a bar."""
        with self.bars() as progress:
            yield from progress.track(items, total=total, description=description)

    @contextmanager
    def busy(self, description: str) -> Iterator[None]:
        """Show on a terminal that one piece of work of unknown length goes on; the bar goes away at its end."""
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        hidden = self.quiet or not console.is_terminal
        with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
            progress.add_task(description, total=None)
            yield

    def say(self, message: str) -> None:
        """Print one line of progress."""
        if not self.quiet:
            Console(stderr=True).print(message, highlight=False, soft_wrap=True)
