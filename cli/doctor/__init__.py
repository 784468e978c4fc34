"""`maas doctor`: what is wrong on this machine, each finding with its fix."""
