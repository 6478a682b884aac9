"""`python -m benchmarks` for tests of its short forms: dbt is forked; how long it takes is not looked at."""

import benchmarks.__main__
from benchmarks import definitions
from tests.support import warm_dbt


def main() -> None:
    warm_dbt.use_everywhere()
    definitions._DBT = warm_dbt.executable()
    benchmarks.__main__.main()


if __name__ == "__main__":
    main()
