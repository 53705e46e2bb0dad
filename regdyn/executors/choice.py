"""Executors by name."""

from __future__ import annotations

from regdyn.errors import InvalidParameter
from regdyn.executors.base import Executor, InProcess
from regdyn.parameters import check_choice, check_integer

EXECUTORS = ("threads", "loky", "dask")
"""Threads of this process, processes of joblib's loky, workers of dask.distributed."""

MOST_WORKERS = 1024


def make_executor(
    name: str | None = None,
    *,
    workers: int | str | None = None,
    scheduler: str | None = None,
    threads: int | str | None = None,
) -> Executor:
    """The executor that was asked for.

    Without a name: that of dask where there is a scheduler or a number of workers, else threads.

    Raises
    ------
    InvalidParameter
        For an unknown name, settings that do not go together, a scheduler that does not answer or has
        no worker, or a worker with another version.
    ModuleNotFoundError
        Where the executor's library is not installed.
    """
    default = "threads" if workers is None and scheduler is None else "dask"
    kind = check_choice("executor", name or default, EXECUTORS)
    count = None if workers is None else check_integer("workers", workers, 1, MOST_WORKERS)
    if scheduler is not None and kind != "dask":
        raise InvalidParameter("scheduler", "used with executor dask", kind)
    if scheduler is not None and count is not None:
        raise InvalidParameter("workers", "left out with a scheduler, which has its own", workers)
    if kind == "threads":
        if count is not None:
            raise InvalidParameter("workers", "used with executor loky or dask", kind)
        return InProcess(None if threads is None else check_integer("threads", threads, 1, 4096))
    if threads is not None:
        wanted = f"left out with executor {kind}, whose workers have one thread each"
        raise InvalidParameter("threads", wanted, threads)
    if count is None and scheduler is None:
        from regdyn.dynamics.engine import thread_count

        count = thread_count(None)
    if kind == "loky":
        from regdyn.executors.loky import Loky

        assert count is not None
        return Loky(count)
    from regdyn.executors.cluster import Dask

    return Dask(scheduler, count)
