select {{ 1 if this.schema.endswith('x') else 2 }} as a
