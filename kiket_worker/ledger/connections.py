"""How many connections each process may open at most, so that what is opened and what is judged cannot differ."""

# Threads that answer the console's requests are as many as the pool of the web framework has, 40; few of them are in
# the database at a time.
OF_A_CONSOLE = 10


def pooled(threads: int) -> int:
    """What a process needs in its pool: for each thread that refreshes, and some for ticking and looking."""
    return 2 * threads + 2


def of_a_worker(concurrency: int) -> tuple[int, int]:
    """What a worker may have open: as the login of DATABASE_URL, and as organisations' roles."""
    # Beside the pool a heartbeat for each refresh; its look at the role, and dbt's two threads.
    return pooled(concurrency) + concurrency, 3 * concurrency
