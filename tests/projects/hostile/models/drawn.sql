select {{ [1, 1, 1] | random }} as a
