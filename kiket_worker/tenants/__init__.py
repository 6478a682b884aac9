"""What belongs to one organisation in the database: its schema and its sessions."""
