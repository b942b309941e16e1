"""What this service calls itself."""

from importlib.metadata import version

SERVICE = "flowbiz-ai-platform"
VERSION = version(SERVICE)
