"""Shared by the tests of dashboards, alerts and runbooks."""
