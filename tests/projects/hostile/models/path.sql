select {{ 1 if 'usr' in env_var('PATH') else 2 }} as a
