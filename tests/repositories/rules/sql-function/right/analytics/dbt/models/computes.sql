select date_trunc('day', now()) as today
