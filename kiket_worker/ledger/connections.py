"""How many connections each process may open at most, so that what is opened and what is judged cannot differ."""

# Threads that answer the console's requests are as many as the pool of the web framework has, 40; few of them are in
# the database at a time.
OF_A_CONSOLE = 10
# Beside these, as organisations' read-only roles: for dashboards that are drawn at a time.
OF_PREVIEWS = 6
# Of the one worker of an installation that records dbt, for two probes with two sessions each, or that builds the
# shared models: a lease of its own to look after, and as roles of tenants.
OF_A_COMPILATION = (1, 4)


def pooled(threads: int) -> int:
    """What a process needs in its pool: for each thread that refreshes, and some for ticking and looking."""
    return 2 * threads + 2


def of_a_worker(concurrency: int) -> tuple[int, int]:
    """What a worker may have open: as the login of DATABASE_URL, and as organisations' roles."""
    # Beside the pool a heartbeat for each refresh, and readiness; its look at the role, and dbt's two threads.
    return pooled(concurrency) + concurrency + 1, 3 * concurrency


def of_an_installation(*, workers: int, tickers: int, consoles: int, concurrency: int) -> tuple[int, int]:
    """What all processes may have open: as the login of DATABASE_URL, and as organisations' roles."""
    own, tenants = of_a_worker(concurrency)
    own_of_compilation, tenants_of_compilation = OF_A_COMPILATION
    return (
        workers * own + own_of_compilation + tickers * of_a_ticker(concurrency) + consoles * OF_A_CONSOLE,
        workers * tenants + tenants_of_compilation + consoles * OF_PREVIEWS,
    )


def of_a_ticker(concurrency: int) -> int:
    """What a ticker may have open, as the login of DATABASE_URL."""
    return pooled(concurrency) + 2  # Readiness, and the metrics' look at the backlog.
