"""`python -m kiket_worker` is the same as the `kiket-worker` command."""

from kiket_worker.cli.app import main

main()
