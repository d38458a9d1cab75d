"""Caps on the threads of numerical libraries, so that the processes of a pod don't fight for its cores."""

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # - not typed

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment that caps a process: the libraries read it once, when they are loaded."""
    return dict.fromkeys(VARIABLES, str(threads))


def cap_loaded_libraries(threads: int) -> None:
    """Cap the BLAS and OpenMP libraries that are loaded by now.

    Some ignore the environment, and OpenMP's cap is one of the calling thread: call it from the thread that predicts.
    """
    threadpool_limits(limits=threads)
