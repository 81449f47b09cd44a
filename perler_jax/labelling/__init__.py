"""Labels of the cells on the tissue: read, learned, put together, calibrated on cells."""
