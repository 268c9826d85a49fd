"""One progress bar over the stages of a long run."""

from collections.abc import Mapping
from types import TracebackType

from tqdm import tqdm

_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}"


class Progress:
    """A bar that says which stage and which layer is at work, and how long the rest may take.

    Args:
        work: What each stage costs, under its name and in the order in which they come. The unit
            does not matter.
        shown: Whether there is a bar at all.
    """

    def __init__(self, work: Mapping[str, float], *, shown: bool) -> None:
        self._work = dict(work)
        self._begun = self._done = 0.0
        self._stage = ""
        # The mean speed: that of the last step tells little about other stages.
        self._bar = tqdm(
            total=sum(work.values()), bar_format=_FORMAT, smoothing=0, disable=not shown
        )

    @staticmethod
    def hidden() -> "Progress":
        """Shows nothing."""
        return Progress({}, shown=False)

    def __enter__(self) -> "Progress":
        """Show the bar."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the bar of a run that has ended, and none where an error says what happened."""
        if error is None:
            self._move_to(sum(self._work.values()))
            self._bar.set_postfix_str("")
        self._bar.leave = error is None
        self._bar.close()

    def begin(self, stage: str) -> None:
        """The stages before `stage` are over; a stage that was not announced counts nothing."""
        if stage in self._work:
            names = list(self._work)
            before = names[: names.index(stage)]
            self._begun = sum(self._work[name] for name in before)
            self._move_to(self._begun)
        self._stage = stage
        self._bar.set_description_str(stage, refresh=False)
        self._bar.set_postfix_str("")

    def step(self, share: float, label: str) -> None:
        """This share of the stage, from 0 to 1, is over, and what is called `label` begins."""
        self._move_to(self._begun + share * self._work.get(self._stage, 0.0))
        self._bar.set_postfix_str(label)

    def _move_to(self, done: float) -> None:
        self._bar.update(done - self._done)
        self._done = done
