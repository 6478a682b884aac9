"""The console: an API for the platform, and pages for people, over HTTP."""
