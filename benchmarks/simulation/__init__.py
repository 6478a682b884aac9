"""A discrete simulation of ticker, queues and workers, to plan with: pure, and with the product's own rules."""
