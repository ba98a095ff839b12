"""Runs selections on both sides, some of them at once: the yardstick first, then Causeway.

    stock, here = Runs(root, Board(), jobs=2).both(selections)

Results are kept in build/conformance/results as each selection ends: the yardstick's are used again, Causeway's are
what `only_failed` goes by. The calling thread waits; a selection's process is driven by a thread of a pool. If the
caller is interrupted, or one selection cannot run, the others are stopped and nothing of them is left behind.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from conformance.limits import Limit
from conformance.progress import Board
from conformance.session import Outcome, Selection, keep_results, kept_results, load_results, run
from conformance.suite import CAUSEWAY, STOCK, Side

Results = dict[str, Outcome]


def not_settled(stock: Mapping[str, Outcome], here: Mapping[str, Outcome], known: Iterable[Limit]) -> list[str]:
    """Returns what passes on stock and neither passed here nor is excused."""
    known = list(known)
    wanted = [name for name, outcome in stock.items() if outcome.passed]
    return [
        name
        for name in wanted
        if name not in here or not (here[name].passed or any(limit.excuses(name, here[name]) for limit in known))
    ]


class Runs:
    """One use of the command. `here`: the side that is compared with the yardstick."""

    def __init__(self, root: Path, board: Board, jobs: int, here: Side | None = None):
        self._root = root
        self._board = board
        self._jobs = jobs
        self._causeway = here or CAUSEWAY
        self._stop = threading.Event()

    def both(
        self,
        selections: Sequence[Selection],
        known: Iterable[Limit] = (),
        *,
        rerun_stock: bool = False,
        only_failed: bool = False,
    ) -> tuple[Results, Results]:
        """Returns the yardstick's results and Causeway's."""
        stock = self._each(selections, lambda selection: self._stock(selection, rerun_stock))

        def here(selection: Selection) -> Results:
            earlier = load_results(kept_results(self._causeway, self._root, selection)) if only_failed else None
            again = None if earlier is None else not_settled(stock[selection.label], earlier, known)
            return self._here(selection, earlier or {}, again)

        return _in_order(selections, stock), _in_order(selections, self._each(selections, here))

    def _each(self, selections: Sequence[Selection], work: Callable[[Selection], Results]) -> dict[str, Results]:
        """Does `work` for each selection, `jobs` at a time and the largest first, and returns what came by label."""
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = {pool.submit(work, selection): selection for selection in sorted(selections, key=self._size)}
            try:
                return {futures[done].label: done.result() for done in as_completed(futures)}
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _size(self, selection: Selection) -> int:
        files = {self._root / name.partition("::")[0] for name in selection.ids}
        return -sum(file.stat().st_size for file in files)

    def _stock(self, selection: Selection, again: bool) -> Results:
        file = kept_results(STOCK, self._root, selection)
        results = None if again else load_results(file)
        if results is not None:
            self._board.note(f"{selection.label} on {STOCK.name}: {len(results)} tests, as an earlier run found them")
            return results
        results = self._run(STOCK, selection)
        keep_results(file, results)
        return results

    def _here(self, selection: Selection, earlier: Results, again: list[str] | None) -> Results:
        if again == []:
            self._board.note(f"{selection.label} on {self._causeway.name}: nothing failed when it ran last")
            return earlier
        ids = selection.ids if again is None else [f"tests/{name}" for name in again]
        results = earlier | self._run(self._causeway, Selection(selection.label, ids))
        keep_results(kept_results(self._causeway, self._root, selection), results)
        return results

    def _run(self, side: Side, selection: Selection) -> Results:
        title = f"{selection.label} on {side.name}"
        self._board.begin(title)
        try:
            return run(side, self._root, selection, partial(self._board.report, title), self._stop)
        finally:
            self._board.end(title)


def _in_order(selections: Sequence[Selection], by_label: Mapping[str, Results]) -> Results:
    return {name: outcome for selection in selections for name, outcome in by_label[selection.label].items()}
