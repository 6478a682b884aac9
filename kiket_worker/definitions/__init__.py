"""Definition repositories: read, validated by what the database says, published, rolled back."""
