"""SQL, policies, migrations: on a real PostgreSQL, never a fake one."""
