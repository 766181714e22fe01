"""ccfailover: the failover button for lenders' contact centres."""

__version__ = "0.1.0"
