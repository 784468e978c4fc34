"""Words encoded by C++, where that is proved to be what the library says."""
