"""The PostgreSQL that comes with Chatkeep: run in the data folder, as an account that may."""
