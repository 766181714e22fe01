"""The only place where a name in a policy becomes an object."""
