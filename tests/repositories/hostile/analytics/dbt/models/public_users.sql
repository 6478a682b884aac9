select * from public.users
