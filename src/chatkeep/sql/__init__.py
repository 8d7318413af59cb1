"""Every line of DDL: tables, roles, policies, grants. Nothing else holds any."""
