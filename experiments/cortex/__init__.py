"""Maps of single cells: visual and somatosensory cortex, dissociated cells of others and of known place."""
