"""Finds the newest of some versions."""
from packaging.version import Version


def newest(versions):
    """Returns the newest version; pre-releases are older than their release."""
    return str(max(Version(v) for v in versions))
