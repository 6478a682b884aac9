select pg_read_file('/etc/hostname') as host
