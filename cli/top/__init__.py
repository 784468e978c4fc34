"""`maas top`: every process of a suite, live."""
