"""What a process tells those who look after it: metrics, whether it lives, and whether it can do its work."""
