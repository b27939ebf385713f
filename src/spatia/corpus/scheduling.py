"""Run the independent tasks of a build: on local threads, or on a dask.distributed cluster."""

from collections.abc import Callable, Sequence
from typing import Any

from spatia.extras import require
from spatia.log import progress


class Scheduler:
    """Where tasks run. Tasks write files and return little; they take only picklable arguments.

    Parameters
    ----------
    address
        Address of a dask.distributed scheduler whose workers see the same files; None: threads of this process.
    n_workers
        Number of local threads; None: one a core.
    """

    def __init__(self, address: str | None = None, n_workers: int | None = None) -> None:
        self.address, self.n_workers = address, n_workers

    def run(
        self, description: str, calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], unit: str
    ) -> list[Any]:
        """Run ``function(*arguments)`` for every call, begun in this order; return the results in order.

        Long tasks belong first, so that no core waits for one of them at the end. The first error stops the rest.
        """
        if not calls:
            return []
        with progress(description, len(calls), unit) as advance:
            return self._on_cluster(calls, advance) if self.address else self._on_threads(description, calls, advance)

    def _on_threads(
        self,
        description: str,
        calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]],
        advance: Callable[[int], None],
    ) -> list[Any]:
        dask, threaded, callbacks = (require(name, "io") for name in ("dask", "dask.threaded", "dask.callbacks"))
        # arguments must pass as they are, not be searched for lazy parts; dask begins with the last of their names
        tasks = [
            dask.delayed(function, pure=False, traverse=False)(
                *arguments, dask_key_name=f"{description}-{len(calls) - number:09d}"
            )
            for number, (function, arguments) in enumerate(calls)
        ]
        names = {task.key for task in tasks}
        with callbacks.Callback(posttask=lambda key, *_: advance(1) if key in names else None):
            return list(dask.compute(*tasks, scheduler=threaded.get, num_workers=self.n_workers, optimize_graph=False))

    def _on_cluster(
        self, calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], advance: Callable[[int], None]
    ) -> list[Any]:
        from distributed import Client, as_completed

        with Client(self.address) as client:
            futures = [client.submit(function, *arguments, pure=False) for function, arguments in calls]
            for future in as_completed(futures):
                future.result()  # raises the task's own error
                advance(1)
            return client.gather(futures)
