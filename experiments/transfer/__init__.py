"""Labels of cells carried to locations whose own labels are known: osmFISH, one half of the cells the map."""
