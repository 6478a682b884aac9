"""Embedded services, sample data and the demo: what a laptop needs and a cluster does not."""
