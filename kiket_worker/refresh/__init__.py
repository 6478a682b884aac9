"""The pipeline of one refresh: claim, build, archive, record usage."""
