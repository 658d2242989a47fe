"""A progress bar on stderr, the stand-in for the bar on a node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...models.plain_text import plain

if TYPE_CHECKING:
    from tqdm import tqdm


class Bar:
    """One line that says how far a node is and what it is doing; drawn from the first step on, or silent."""

    shows_pictures = False
    shows_pace = True  # steps, speed and time left, beside the text

    def __init__(self, total: int, silent: bool) -> None:
        self.total = total
        self.silent = silent or total <= 1  # a bar of one step would flash by
        self._bar: tqdm[Any] | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether its line is on the screen and goes on."""
        return self._bar is not None

    def update(self, value: int, text: str | None = None, preview: Any = None) -> None:
        """Move the bar to `value` of its total; `preview` has no place in a terminal."""
        if self.silent:
            return
        text = None if text is None else plain(text)
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(desc=text, total=self.total, dynamic_ncols=True)
        if text is not None:
            self._bar.set_description(text, refresh=False)
        self._bar.update(value - self._bar.n)
        if value >= self.total:
            self.close()

    def close(self) -> None:
        """End the line, so that what is printed next begins on its own."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self.silent = True
