"""The trial build: an overlay is built without rows, in a scratch schema, as a role that exists for this only."""
