"""Data sets, each from its own files; `synthetic` ones need none. `segjax.data` names them."""
