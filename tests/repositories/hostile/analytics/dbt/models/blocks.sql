do $$ begin raise exception 'x'; end $$
