"""One file per kind of file that users bring; :mod:`perler_jax.inputs.readers.known` lists them."""
