"""How much of an automated changelog draft is left in what people publish: scored, stored and exported."""
