"""When organisations are due, and the ticker that queues them."""
