"""What a run leaves for audit: stores and the archive of a run."""
