"""`maas plan`: how many of each process a load needs, from what each costs where it was measured."""
