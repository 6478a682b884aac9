"""The API below `/api/v1/analytics`."""

PREFIX = "/api/v1/analytics"
